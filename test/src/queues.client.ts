import { openAccel, openBuffers } from '@uaccel/client'
import { checkOperation, endOf } from '@uaccel/driver-npu/contract'
import { type NpuUserQueue, openNpuQueue } from '@uaccel/driver-npu/queue'
import { npuQueue, npuUapi } from '@uaccel/driver-npu/uapi'
import { openQueue } from '@uaccel/memory'
import { EventFd, Mapping, sys } from '@uaccel/sys'
import { commonUapi, isAccelError } from '@uaccel/uapi'

/*
 * A client without privileges in a process of its own: argv[2] is what it does, argv[3] the folder of the nodes, argv[4] a seed.
 */

const [what, folder, number = '1'] = process.argv.slice(2) as [string, string, string?]
const say = (word: object) => process.send?.(word)
const MEMORY_BYTES = 1 << 20
const ENTRIES = 64

let state = Number(number) * 0x9e37_79b1
/** The same for the same seed: 32 bits. */
function dice(): number {
  state = (state + 0x6d2b_79f5) | 0
  let value = Math.imul(state ^ (state >>> 15), state | 1)
  value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
  return (value ^ (value >>> 14)) >>> 0
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error) => (isAccelError(error) ? error.code : String(error)),
  )

const open = () => openAccel(npuUapi, 'accel0', { folder })

/** Keeps the queue full of fills of all sizes. */
function load({ context, buffers }: NpuUserQueue): void {
  const [buffer] = buffers
  const jobs = Array.from({ length: 8 }, (_, i) =>
    context.encode([
      { op: 'fill', y: { buffer: buffer! }, length: buffer!.sizeBytes >> i, pattern: dice() | 0 },
    ]),
  )
  const again = () => {
    if (context.failure === undefined) context.submit(jobs[dice() % jobs.length]!, again)
  }
  for (let i = 0; i < ENTRIES * 2; i++) again()
  const turn = () => {
    for (let i = 0; i < 50; i++) {
      context.flush()
      context.poll()
    }
    setImmediate(turn)
  }
  turn()
}

/** Everything that a client can do to what it was given. */
async function attack(dev: Awaited<ReturnType<typeof open>>): Promise<object> {
  const buffer = await openBuffers(dev).create(8192)
  const { handle } = buffer
  const made = await dev.common('queueCreate', {
    buffers: [{ handle, access: 'readwrite', offset: 0n, sizeBytes: 4096n }],
    entries: ENTRIES,
    flags: {},
    payload: new Uint8Array(),
  })
  const fds = [made.rings!, made.doorbell!, made.kick!] as const
  const refused = await Promise.all(
    fds
      .slice(0, 2)
      .flatMap((fd) => [0, 1 << 20].map((size) => codeOf((async () => sys.ftruncate(fd, size))()))),
  )
  const { status, addresses } = npuQueue.decode(made.payload)
  const sizeBytes = Number(made.ringsPart.sizeBytes)
  const rings = Mapping.map({
    fd: fds[0],
    offset: Number(made.ringsPart.offset),
    sizeBytes: pages(sizeBytes),
  })
  const words = rings.window.i32
  const page = Number(made.doorbellPart.offset)
  const bells = Mapping.map({ fd: fds[1], offset: page, sizeBytes: Number(made.doorbellPart.sizeBytes) })
  // The whole BAR came with the page: those of other queues, and nothing else.
  const { sizeBytes: barBytes } = sys.fstat(fds[1])
  const others = Mapping.map({ fd: fds[1], offset: 0, sizeBytes: barBytes })
  const kick = new EventFd(sys, fds[2])
  // Noise, and fills of what is near the window, within it too: the tail is in order, so each is looked at.
  let tail = 0
  const until = performance.now() + 300
  while (performance.now() < until) {
    for (let i = 0; i < ENTRIES - 1; i++, tail++) {
      const at = (tail & (ENTRIES - 1)) * 16
      for (let word = 0; word < 16; word++) words[at + word] = dice()
      words[at] = (words[at]! & ~0xff) | (dice() % 0xc0) // but for those that break the device, for tests of that
      if (dice() % 2 === 0) {
        words.fill(0, at, at + 16)
        const near = addresses[0]! + BigInt((dice() % 16_384) - 4096)
        words[at] = 0x402 // a fill, with an interrupt
        words[at + 8] = Number(near & 0xffff_ffffn) | 0
        words[at + 9] = Number(near >> 32n)
        words[at + 12] = 1 + (dice() % 8192)
        words[at + 13] = dice() | 1
      }
    }
    bells.window.i32[0] = tail
    kick.signal()
    for (const start = performance.now(); seen !== tail && performance.now() - start < 5000; ) {
      await new Promise((resolve) => setImmediate(resolve))
      completed(words, tail)
      bells.window.i32[1] = seen
    }
  }
  const served = await codeOf(dev.call('identify', {}))
  const { descriptors, errors } = await dev.call('counters', { clear: false })
  // A storm at the doorbell, at the eventfd, and over the status block.
  const storm = performance.now() + 200
  while (performance.now() < storm) {
    for (let i = 0; i < 1000; i++) {
      bells.window.i32[dice() % 1024] = dice()
      others.window.i32[dice() % (barBytes / 4)] = dice()
    }
    words[status / 4 + (dice() % 16)] = dice()
    kick.signal(dice())
  }
  const after = await codeOf(dev.call('identify', {}))
  for (const fd of fds.slice(0, 2)) sys.close(fd)
  return {
    refused,
    barBytes,
    served,
    after,
    descriptors: Number(descriptors),
    errors: Number(errors),
    untouched: outside(buffer.u8),
  }
}

const pages = (sizeBytes: number) => Math.ceil(sizeBytes / 4096) * 4096
/** What lies behind the part of the buffer that the queue may touch. */
const outside = (bytes: Uint8Array) => bytes.subarray(4096).every((byte) => byte === 0)

/** How far the device has come, by the phase bits of its completions; `tail` at most. */
function completed(words: Int32Array, tail: number): void {
  const at = (slot: number) => words[(ENTRIES * 64) / 4 + (slot & (ENTRIES - 1)) * 4 + 3]!
  while (seen !== tail && ((at(seen) >>> 16) & 1) === (((seen / ENTRIES) & 1) ^ 1)) seen++
}
let seen = 0

const programs: Record<string, () => Promise<void>> = {
  /** Random cases of every operation, by a queue of its own. */
  async cases() {
    const dev = await open()
    const memory = await openBuffers(dev).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(dev, { memory })
    const operations = ['copy', 'fill', 'conv2d', 'matmul', 'pool', 'add', 'lut', 'requantise']
    for (const name of operations) await checkOperation(context, name, Number(number))
    const other = await codeOf(open())
    const job = context.encode([{ op: 'nop' }])
    const pending = endOf(context.run([job, job, job]))
    await context.close()
    say({ other, last: await pending, uid: process.getuid?.() })
    await memory.destroy()
    await dev.close()
    process.disconnect()
  },

  /** A queue that is kept full, until somebody kills this. */
  async load() {
    const dev = await open()
    const buffers = openBuffers(dev)
    const [memory, buffer] = [await buffers.create(MEMORY_BYTES), await buffers.create(1 << 16)]
    const queue = await openNpuQueue(dev, {
      memory,
      buffers: [{ buffer, access: 'write' }],
      ringEntries: ENTRIES,
    })
    load(queue)
    say({ loaded: true })
  },

  /** Jobs under way when the server dies. */
  async orphan() {
    const dev = await open()
    const memory = await openBuffers(dev).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(dev, { memory })
    const job = context.encode([{ op: 'nop' }])
    await context.run(job)
    say({ running: true })
    let end = 'SUCCESS'
    while (end === 'SUCCESS') end = await endOf(context.run(job))
    const { code } = await dev.lost
    say({ end, code, later: await endOf(context.run(job)), closed: await codeOf(context.close()) })
    process.disconnect()
  },

  async hostile() {
    const dev = await open()
    say(await attack(dev))
    // Leaves everything as it is.
    if (Number(number) % 2 === 0) process.kill(process.pid, 'SIGKILL')
    await dev.close()
    process.disconnect()
  },

  /** Its queue breaks, and it makes another. */
  async broken() {
    const dev = await open()
    const memory = await openBuffers(dev).create(MEMORY_BYTES)
    const events: string[] = []
    void (async () => {
      for await (const { kind, reason } of dev.events()) events.push(`${kind}: ${reason}`)
    })()
    const first = await openNpuQueue(dev, { memory })
    const raw = await openQueue(dev, { entries: 16, buffers: [] })
    raw.doorbell.write32(0, 1000) // more than there can be
    raw.kick()
    const failed = await new Promise<number>((resolve) => {
      const { status } = npuQueue.decode(raw.payload)
      const look = () => {
        const code = raw.rings.i32[status / 4 + 1]!
        if (code !== 0) resolve(code)
        else setTimeout(look, 5)
      }
      look()
    })
    const job = first.context.encode([{ op: 'nop' }])
    const others = await endOf(first.context.run(job))
    await raw.close()
    const still = await endOf(first.context.run(job))
    await first.context.close()
    const next = await openNpuQueue(dev, { memory })
    const again = await endOf(next.context.run(next.context.encode([{ op: 'nop' }])))
    await next.context.close()
    say({ failed, others, still, again, events })
    await dev.close()
    process.disconnect()
  },

  /** Only says whether the node can be opened. */
  async look() {
    const dev = await openAccel(commonUapi, 'accel0', { folder })
    await dev.close()
    process.disconnect()
  },
}

await programs[what]!()
