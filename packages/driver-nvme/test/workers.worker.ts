import { setTimeout as sleep } from 'node:timers/promises'
import { parentPort } from 'node:worker_threads'
import { isAccelError } from '@uaccel/uapi'
import type { NvmeQueueToken } from '../src/lease.js'
// Not by way of the driver: a worker thread needs neither that nor the subsystem, and starts faster without.
import { attachNvmeQueue, type NvmeWorkerQueue } from '../src/worker-queue.js'
import { fill, numbers, Word } from './numbers.js'

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
  readonly acknowledged: number
  /** Commands that a reset ended. */
  readonly refused: number
  /** The code of the error that ended it, if one did. */
  readonly end?: string
  /** Blocks that do not have what was acknowledged last, nor what was under way after that. */
  readonly wrong: readonly number[]
}

/** Blocks that a worker has to itself. */
export interface Place {
  readonly lba: number
  readonly blocks: number
  readonly blockBytes: number
}

const WIDTH = 8
const SLOT_BYTES = 64 * 1024

let queue: NvmeWorkerQueue
let words: Int32Array

const actions = {
  async attach(token: NvmeQueueToken, shared: Int32Array) {
    queue = await attachNvmeQueue(token)
    words = shared
  },

  /** Reads and writes of random blocks, of random length and place in a page; what is read is held against what was written last. */
  async soak({ lba: base, blocks, blockBytes }: Place, ios: number) {
    const perLane = Math.floor(blocks / WIDTH)
    const lane = async (i: number) => {
      const next = numbers(base + i + 1)
      const first = base + i * perLane
      const image = new Uint8Array(perLane * blockBytes)
      const most = Math.min(perLane, 16)
      const known = new Uint8Array(perLane)
      for (let done = 0; done < ios / WIDTH; done++) {
        const count = 1 + next(most)
        const at = next(perLane - count + 1)
        const offset = i * SLOT_BYTES + 4 * next(1024)
        const bytes = queue.memory.u8.subarray(offset, offset + count * blockBytes)
        const transfer = { lba: first + at, blocks: count, offset }
        const part = image.subarray(at * blockBytes, (at + count) * blockBytes)
        if (next(2) === 0) {
          fill(bytes, base + done)
          await queue.write(transfer)
          part.set(bytes)
          known.fill(1, at, at + count)
        } else if (known.subarray(at, at + count).every((one) => one === 1)) {
          bytes.fill(0xee)
          await queue.read(transfer)
          if (Buffer.compare(bytes, part) !== 0) throw new Error(`${count} blocks from ${first + at} on`)
        }
        Atomics.add(words, Word.DONE, 1)
      }
    }
    await Promise.all(Array.from({ length: WIDTH }, (_, i) => lane(i)))
    await queue.flush()
  },

  /** Does nothing for a time, and hears of nothing. */
  halt: (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),

  /** Without ever reaching the event loop: submits, and polls until it is done. Answers how many ended well. */
  spin(count: number) {
    let done = 0
    const listener = {
      completed(_: number, status: number) {
        if (status === 0) done++
      },
      failed() {},
    }
    const [low, high] = [Number(BigInt.asIntN(32, queue.memory.iova)), Number(queue.memory.iova >> 32n)]
    const { blockBytes } = queue.namespaces[0]!
    for (let i = 0; i < count; i++) {
      queue.queue.submit(2, 1, low, high, blockBytes, i, 0, 0, listener)
      queue.kick()
      for (const limit = performance.now() + 20_000; done <= i; ) {
        queue.poll()
        if (performance.now() > limit) return done
      }
    }
    return done
  },

  /** Writes its blocks again and again, over resets, until it is told to end or an error other than that of a reset comes; then looks at them. */
  async load({ lba: base, blocks, blockBytes }: Place): Promise<LoadEnd> {
    const used = Math.min(blocks, 4 * WIDTH)
    const begun = new Int32Array(used).fill(-1)
    const acknowledgedLast = new Int32Array(used).fill(-1)
    const seedOf = (block: number, version: number) => base + block + version * 1000
    let [acknowledged, refused, end] = [0, 0, undefined as string | undefined]
    const lane = async (i: number) => {
      const next = numbers(base + i + 7)
      const offset = i * SLOT_BYTES
      const bytes = queue.memory.u8.subarray(offset, offset + blockBytes)
      while (Atomics.load(words, Word.STOP) === 0 && end === undefined) {
        const block = i + WIDTH * next(used / WIDTH)
        const version = ++begun[block]!
        try {
          fill(bytes, seedOf(block, version))
          await queue.write({ lba: base + block, blocks: 1, offset })
          acknowledgedLast[block] = version
          acknowledged++
          Atomics.add(words, Word.DONE, 1)
        } catch (error) {
          if (!isAccelError(error, 'ERR_ACCEL_AGAIN')) {
            end ??= isAccelError(error) ? error.code : String(error)
            return
          }
          refused++
          await revived()
        }
      }
    }
    await Promise.all(Array.from({ length: WIDTH }, (_, i) => lane(i)))
    if (end !== undefined) return { acknowledged, refused, end, wrong: [] }
    const wrong: number[] = []
    const [found, expected] = [queue.memory.u8.subarray(0, blockBytes), new Uint8Array(blockBytes)]
    for (let block = 0; block < used; block++) {
      if (acknowledgedLast[block]! < 0) continue
      await queue.read({ lba: base + block, blocks: 1 })
      let there = false
      for (let version = acknowledgedLast[block]!; version <= begun[block]! && !there; version++) {
        fill(expected, seedOf(block, version))
        there = Buffer.compare(found, expected) === 0
      }
      if (!there) wrong.push(block)
    }
    return { acknowledged, refused, wrong }
  },

  interrupts: () => queue.irqCounts?.fired,

  failure: () => queue.failure?.code,

  /** How one read ends. */
  read: () =>
    queue.read({ lba: 0, blocks: 1 }).then(
      () => 'done',
      (error) => (isAccelError(error) ? error.code : String(error)),
    ),

  revived,

  close: () => queue.close(),
}

/** Waits until the queue takes work again. */
async function revived(): Promise<void> {
  queue.poll() // hears of a reset whose message is still on its way
  for (const start = performance.now(); queue.failure !== undefined; await sleep(1)) {
    if (queue.failure.code !== 'ERR_ACCEL_AGAIN') return
    if (performance.now() - start > 60_000) throw queue.failure
  }
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
