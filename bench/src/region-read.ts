import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openDevice, reg32, registers, type Transport } from '@uaccel/core'
import { connectVfioUser } from '@uaccel/vfio-user'
import { onOneCore } from './affinity.js'
import { startBaseline } from './baseline.js'
import { Child } from './child.js'
import { expect, type Measure, timed } from './measure.js'

/** What BAR 0 of both servers reads at offset 0: `c/vfio-user.h`. */
export const ID_VALUE = 0x9234_5678

const Registers = registers({ ID: reg32(0x00, 'ro') })
type Language = 'c' | 'typescript'

/**
 * A 4-byte REGION_READ and its reply, with each kind of client on each kind of server. Free to choose, the scheduler puts
 * both ends on one core or on two, and waking the other core can cost more than all the rest: so once on one core, once free.
 */
export async function regionRead(measure: Measure): Promise<void> {
  await onOneCore(() => eachPair(measure, 'one core'))
  await eachPair(measure, 'any core')
}

async function eachPair(measure: Measure, where: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-'))
  const children: Child[] = []
  const transports: Transport[] = []

  // A server takes one client.
  const serve = async (language: Language, client: Language): Promise<string> => {
    const path = join(folder, `${language}-${client}.sock`)
    const script = fileURLToPath(new URL('register-server.js', import.meta.url))
    const server =
      language === 'c'
        ? startBaseline('vfio-user-server', [path])
        : new Child(process.execPath, [script, path])
    children.push(server)
    await server.line()
    return path
  }
  const cClient = async (server: Language) => {
    const client = startBaseline('vfio-user-client', [await serve(server, 'c')])
    children.push(client)
    return (operations: number) => client.run(operations)
  }
  const ourClient = async (server: Language) => {
    const transport = await connectVfioUser(await serve(server, 'typescript'))
    transports.push(transport)
    const bar = await openDevice(transport).mapBar(0, Registers)
    return (operations: number) => {
      const [ns] = timed(operations, () => {
        let sum = 0
        for (let i = 0; i < operations; i++) sum = (sum + bar.ID.read()) | 0
        expect(sum, Math.imul(ID_VALUE, operations), 'sum of the reads')
      })
      return [ns / 1000]
    }
  }

  try {
    const ours = { c: await ourClient('c'), typescript: await ourClient('typescript') }
    const theirs = { c: await cClient('c'), typescript: await cClient('typescript') }
    const contests = [
      [`region read, ${where}: client, on a C server`, ours.c, theirs.c],
      [`region read, ${where}: client, on a TypeScript server`, ours.typescript, theirs.typescript],
      [`region read, ${where}: server, for a C client`, theirs.typescript, theirs.c],
    ] as const
    for (const [name, typescript, c] of contests) {
      await measure({
        rows: [name],
        unit: 'us',
        operations: 2000,
        typescript: async (operations) => typescript(operations),
        c: async (operations) => c(operations),
      })
    }
  } finally {
    for (const transport of transports) await transport.close()
    for (const child of children) await child.close()
    rmSync(folder, { recursive: true, force: true })
  }
}
