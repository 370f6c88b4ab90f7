import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort } from 'node:worker_threads'
import { type AccelError, isAccelError } from '@uaccel/uapi'
import type { NpuBuffer } from '../src/buffers.js'
import type { NpuContext } from '../src/context.js'
import type { NpuJob } from '../src/job.js'
import type { NpuContextToken } from '../src/lease.js'
import { attachNpuContext } from '../src/worker-context.js'
import { checkOperation, endOf } from './check.js'

/** What {@link actions} do is asked for by these messages. */
export interface Request {
  readonly id: number
  readonly action: keyof Actions
  readonly args: readonly unknown[]
}
export type Reply = { readonly id: number; readonly result?: unknown; readonly error?: string }
export type Actions = typeof actions

/** How a load ended. */
export interface LoadEnd {
  readonly done: number
  /** The first end that was not a success, and how many of each there were. */
  readonly ends: Readonly<Record<string, number>>
}

let context: NpuContext
/** Words that the test sees and sets: jobs done so far; 1 to end a load. */
let shared: Int32Array
/** What `kept` reads: in the host, and on the card. */
let buffers: readonly NpuBuffer[] | undefined

const FILL_BYTES = 64

function fill(pattern: number): NpuJob {
  const buffer = context.allocate(FILL_BYTES)
  return context.encode([{ op: 'fill', y: { buffer }, length: FILL_BYTES, pattern }])
}

const actions = {
  async attach(token: NpuContextToken, words: Int32Array) {
    context = await attachNpuContext(token)
    shared = words
  },

  /** Random cases of operations against the reference. */
  async check(names: readonly string[], runs: number) {
    for (const name of names) await checkOperation(context, name, runs)
  },

  /** Many more jobs than the ring holds, submitted at once: they end in the order in which they were submitted. */
  async order(count: number) {
    const buffer = context.allocate(4 * count)
    const ends: number[] = []
    await new Promise<void>((resolve) => {
      for (let i = 0; i < count; i++) {
        // Each depends on the one before: the word before is copied, then it is there.
        const y = { buffer, offset: 4 * i }
        const job = context.encode(
          i === 0
            ? [{ op: 'fill', y, length: 4, pattern: 0x01020304 }]
            : [{ op: 'copy', x: { buffer, offset: 4 * (i - 1) }, y, length: 4 }],
        )
        context.submit(job, (error) => {
          ends.push(error === undefined ? i : -1)
          if (ends.length === count) resolve()
        })
      }
      context.flush()
    })
    const inOrder = ends.every((end, i) => end === i)
    const complete = buffer.u32.every((word) => word === 0x01020304)
    buffer.free()
    return inOrder && complete
  },

  /** Jobs one by one, each waited for: one interrupt for each. */
  async single(count: number) {
    const job = fill(1)
    const before = context.irqCounts
    for (let i = 0; i < count; i++) await context.run(job)
    job.free()
    if (before === undefined) return undefined
    const fired = () => context.irqCounts!.fired - before.fired
    // The last completion may have been seen by a look before its interrupt came.
    for (let rests = 0; fired() < count && rests < 200; rests++) await sleep(10)
    await sleep(20) // nor may one come that nobody asked for
    return fired()
  },

  /** Without ever reaching the event loop: submits, and polls until it is done. Answers the result. */
  spin(count: number) {
    const job = fill(1)
    let done = 0
    let failed = ''
    for (let i = 0; i < count; i++) {
      context.submit(job, (error) => {
        done++
        failed ||= error?.code ?? ''
      })
      context.flush()
      const limit = performance.now() + 20_000
      while (done <= i) {
        context.poll()
        if (performance.now() > limit) return `no completion of job ${i}`
      }
    }
    return failed === '' ? done : failed
  },

  /** Keeps jobs under way until one ends otherwise than well, or it is told to end. */
  async load(width: number): Promise<LoadEnd> {
    const ends: Record<string, number> = {}
    const lane = async (lane: number) => {
      const job = fill(lane)
      for (;;) {
        const end = await endOf(context.run(job))
        ends[end] = (ends[end] ?? 0) + 1
        if (end !== 'SUCCESS') return
        Atomics.add(shared, 0, 1)
        if (Atomics.load(shared, 1) === 1) {
          job.free()
          return
        }
      }
    }
    await Promise.all(Array.from({ length: width }, (_, i) => lane(i)))
    return { done: Atomics.load(shared, 0), ends }
  },

  /** As a load, in a loop that never reaches the event loop: it learns of the end by its polls. */
  spinLoad(): LoadEnd {
    const job = fill(1)
    const ends: Record<string, number> = {}
    let under = 4
    const done = (error?: AccelError) => {
      if (error === undefined) {
        Atomics.add(shared, 0, 1)
        context.submit(job, done)
      } else {
        ends[error.code] = (ends[error.code] ?? 0) + 1
        under--
      }
    }
    for (let i = 0; i < 4; i++) context.submit(job, done)
    while (under > 0) {
      context.flush()
      context.poll()
    }
    return { done: Atomics.load(shared, 0), ends }
  },

  /** Waits until the context takes work again. */
  async revived() {
    context.poll() // hears of a reset whose message is still on its way
    for (const start = performance.now(); context.failure !== undefined; await sleep(1)) {
      if (performance.now() - start > 20_000) throw context.failure
    }
  },

  failure: () => context.failure?.code,

  /** A hang of the device, which ends with a function reset if `deaf`. */
  hang: (deaf: boolean) => {
    const job = context.encode([{ op: 'nop' }])
    job.words[0] = 0xc0 | 0x400
    job.words[13] = Number(deaf)
    return endOf(context.run(job, { timeoutMs: 300 }))
  },

  memory() {
    const [one, two] = [context.allocate(4096), context.allocate(64)]
    one.u8.fill(1)
    try {
      context.allocate(1 << 30)
    } catch (error) {
      one.free()
      two.free()
      return isAccelError(error) && error.code
    }
    return 'no error'
  },

  card() {
    const buffer = context.allocate(256, { place: 'card' })
    buffer.write(0, Uint8Array.of(1, 2, 3))
    const host = context.allocate(16)
    const job = context.encode([{ op: 'copy', x: { buffer }, y: { buffer: host }, length: 3 }])
    return context.run(job).then(() => [...host.u8.subarray(0, 4)])
  },

  /** Reads what it wrote at the first call, through a view and by copies. Answers what it found, or the code of an error. */
  kept() {
    buffers ??= (['host', 'card'] as const).map((place) =>
      context.allocateFrom(new Uint8Array(64).fill(7), { place }),
    )
    const [host, card] = buffers
    const copied = (buffer: NpuBuffer) => {
      const into = new Uint8Array(64)
      buffer.read(0, into)
      return into[63]
    }
    return [() => host.u8[0], () => copied(host), () => copied(card)].map((look) => {
      try {
        return String(look())
      } catch (error) {
        return isAccelError(error) ? error.code : String(error)
      }
    })
  },

  close: () => context.close(),
}

const port = parentPort!
port.on('message', async ({ id, action, args }: Request) => {
  try {
    const call = actions[action] as (...args: readonly unknown[]) => unknown
    port.postMessage({ id, result: await call(...args) } satisfies Reply)
  } catch (error) {
    port.postMessage({ id, error: isAccelError(error) ? error.code : String(error) } satisfies Reply)
  }
})
