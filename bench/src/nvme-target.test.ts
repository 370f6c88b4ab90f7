import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDevice } from '@uaccel/core'
import { type CommandListener, Nvme, statusName } from '@uaccel/driver-nvme'
import type { DmaRegion } from '@uaccel/memory'
import { connectVfioUser } from '@uaccel/vfio-user'
import t, { type Test } from 'tap'
import { compilerVersion, startBaseline } from './baseline.js'

t.setTimeout(200_000)

/** A user's machine may have no compiler, and then these are reported as not run; CI has one, or fails. */
const needsCompiler = { skip: process.env.CI ? false : missingCompiler() }

function missingCompiler(): string | false {
  try {
    compilerVersion()
    return false
  } catch (error) {
    return `not run: ${(error as Error).message}`
  }
}

/** Opcodes (NVMe base 1.4, section 6). */
const [READ, WRITE_ZEROES] = [0x02, 0x08]
/** BLOCKS of `c/nvme-target.c`, 512 bytes each. */
const BLOCKS = 2 ** 28

interface Access {
  readonly opcode?: number
  readonly nsid?: number
  readonly lba?: number
  /** Of the memory that it names, in bytes from the start of what is mapped for it. */
  readonly offset?: number
}

/** A read of 4 KiB, but for what is said: answers how it ended. */
function run(nvme: Nvme, memory: DmaRegion, { opcode = READ, nsid = 1, lba = 0, offset = 0 }: Access) {
  return new Promise<string>((resolve, reject) => {
    const listener: CommandListener = {
      completed: (_, status) => resolve(status === 0 ? 'done' : statusName(status)),
      failed: (_, error) => reject(error),
    }
    const [queue] = nvme.queues
    queue!.submit(opcode, nsid, (memory.iovaLow + offset) | 0, memory.iovaHigh, 4096, lba, 0, 7, listener)
    nvme.kick(queue!)
  })
}

/** Brings the controller up by the driver, as it is for every other controller. */
async function session(socket: string, work: (nvme: Nvme, memory: DmaRegion) => Promise<void>) {
  const transport = await connectVfioUser(socket)
  const device = openDevice(transport)
  try {
    const nvme = await Nvme.start(device)
    await work(nvme, device.dma.alloc(4096, { alignBytes: 4096, name: 'data' }))
  } finally {
    await device.release()
    await transport.close()
  }
}

async function serve(t: Test, ...args: string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-')) // the path of a socket is short
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const socket = join(folder, 'nvme.sock')
  const target = startBaseline('nvme-target', [socket, ...args])
  t.teardown(() => target.close())
  t.equal(await target.line(), 'ready')
  return socket
}

t.test('the null target: identity, reads, and what it refuses', needsCompiler, async (t) => {
  const socket = await serve(t)
  await session(socket, async (nvme, memory) => {
    t.equal(nvme.identity.model, 'null')
    t.match(nvme.namespaces, [{ nsid: 1, blocks: BigInt(BLOCKS), blockBytes: 512, usable: true }])
    t.equal(nvme.queues.length, 4)
    const end = (access: Access) => run(nvme, memory, access)
    // more than the ring has entries
    for (let i = 0; i < 300; i++) if ((await end({ lba: 8 * i })) !== 'done') t.fail(`read ${i}`)
    t.equal(await end({ lba: BLOCKS - 8 }), 'done', 'the last blocks')
    t.equal(await end({ lba: BLOCKS - 7 }), 'LBA_OUT_OF_RANGE')
    t.equal(await end({ nsid: 2 }), 'INVALID_NAMESPACE_OR_FORMAT')
    t.equal(await end({ opcode: WRITE_ZEROES }), 'INVALID_OPCODE')
    t.equal(await end({ offset: 1 << 30 }), 'DATA_TRANSFER_ERROR', 'memory that is not mapped')
    t.equal((await nvme.admin.health()).mediaErrors, 0n)
  })
})

t.test('one client after the other, also one that just goes', needsCompiler, async (t) => {
  const socket = await serve(t)
  const transport = await connectVfioUser(socket)
  const device = openDevice(transport)
  await Nvme.start(device)
  await transport.close()
  await t.rejects(device.release())
  await session(socket, async (nvme, memory) => {
    t.equal(await run(nvme, memory, {}), 'done')
  })
})

t.test('a pace', needsCompiler, async (t) => {
  const socket = await serve(t, '5000000')
  await session(socket, async (nvme, memory) => {
    const start = performance.now()
    await Promise.all(Array.from({ length: 8 }, () => run(nvme, memory, {})))
    t.ok(performance.now() - start >= 40, 'eight reads of 5 ms')
  })
})
