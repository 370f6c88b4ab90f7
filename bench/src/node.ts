import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type NodeClient, openAccel } from '@uaccel/client'
import { Mapping, sys } from '@uaccel/sys'
import { commonUapi, type Handle } from '@uaccel/uapi'
import { onOneCore } from './affinity.js'
import { startBaseline } from './baseline.js'
import { Child } from './child.js'
import { expect, type Measure } from './measure.js'

type Client = NodeClient<typeof commonUapi>

/** Requests under way at a time, where they are pipelined; WINDOW of `c/node.h`. */
const WINDOW = 64
const sizes = [
  ['1 KiB', 1 << 10],
  ['64 KiB', 64 << 10],
  ['1 MiB', 1 << 20],
  ['16 MiB', 16 << 20],
  ['256 MiB', 256 << 20],
] as const

/** A server of a node in a process of its own, and so many opens of it here. */
async function withNode(opens: number, work: (clients: Client[], folder: string) => Promise<void>) {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-'))
  const script = fileURLToPath(new URL('node-server.js', import.meta.url))
  const server = new Child(process.execPath, [script, folder])
  const clients: Client[] = []
  try {
    await server.line()
    for (let i = 0; i < opens; i++) clients.push(await openAccel(commonUapi, 'accel0', { folder }))
    await work(clients, folder)
  } finally {
    for (const client of clients) await client.close()
    await server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A command from one process to another, and its answer: against messages of the same size that mean nothing. */
export async function nodeCommand(measure: Measure): Promise<void> {
  await onOneCore(() => eachWindow(measure, 'one core'))
  await eachWindow(measure, 'any core')
}

async function eachWindow(measure: Measure, where: string): Promise<void> {
  await withNode(1, async ([client], folder) => {
    for (const [name, window] of [
      ['one at a time', 1],
      [`${WINDOW} under way`, WINDOW],
    ] as const) {
      const path = join(folder, `c-${window}`)
      const server = startBaseline('node-server', [path])
      await server.line()
      const baseline = startBaseline('node-client', [path, `${window}`])
      try {
        await measure({
          rows: [`node command, ${where}: ${name}`],
          unit: 'us',
          operations: window === 1 ? 2000 : 6400,
          typescript: (operations) => commands(client!, operations, window),
          c: (operations) => baseline.run(operations),
        })
      } finally {
        await baseline.close()
        await server.close()
      }
    }
  })
}

async function commands(client: Client, operations: number, window: number): Promise<[number]> {
  let sum = 0
  const start = performance.now()
  for (let done = 0; done < operations; done += window) {
    if (window === 1) sum += (await client.version()).version
    else {
      const answers = await Promise.all(Array.from({ length: window }, () => client.version()))
      for (const { version } of answers) sum += version
    }
  }
  const us = ((performance.now() - start) * 1000) / operations
  expect(sum, Math.ceil(operations / window) * window, 'versions of edu, which is 1, added up')
  return [us]
}

/** A buffer that one open makes and maps, exports, and another imports, maps and writes: no byte of it crosses a socket. */
export async function share(measure: Measure): Promise<void> {
  await withNode(2, async ([maker, other]) => {
    for (const [name, sizeBytes] of sizes) {
      const baseline = startBaseline('share', [`${sizeBytes}`])
      try {
        await measure({
          rows: [`buffer of ${name}: made, shared, mapped twice`],
          unit: 'us',
          operations: 50,
          typescript: (operations) => shared(maker!, other!, sizeBytes, operations),
          c: (operations) => baseline.run(operations),
        })
      } finally {
        await baseline.close()
      }
    }
  })
}

async function shared(
  maker: Client,
  other: Client,
  sizeBytes: number,
  operations: number,
): Promise<[number]> {
  const start = performance.now()
  for (let i = 0; i < operations; i++) {
    const { handle } = await maker.common('boCreate', { sizeBytes: BigInt(sizeBytes), flags: {} })
    const mine = await mapped(maker, handle)
    const { fd } = await maker.common('boExport', { handle, kind: 'memory', flags: {} })
    const imported = await other.common('boImport', { fd, flags: {} })
    sys.close(fd!)
    const theirs = await mapped(other, imported.handle)
    theirs.window.u8[0] = i | 1
    expect(mine.window.u8[0]!, (i | 1) & 0xff, 'the first byte')
    mine.revoke()
    theirs.revoke()
    await Promise.all([
      maker.common('boDestroy', { handle }),
      other.common('boDestroy', { handle: imported.handle }),
    ])
  }
  return [((performance.now() - start) * 1000) / operations]
}

async function mapped(client: Client, handle: Handle<'bo'>): Promise<Mapping> {
  const { fd, offset, sizeBytes } = await client.common('boMmap', { handle, flags: {} })
  try {
    return Mapping.map({ fd: fd!, offset: Number(offset), sizeBytes: Number(sizeBytes), label: 'shared' })
  } finally {
    sys.close(fd!)
  }
}
