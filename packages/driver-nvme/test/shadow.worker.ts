// A controller with shadow doorbells in a thread of its own: takes what was announced, says up to where it looked, looks once more, sleeps.
import { workerData } from 'node:worker_threads'

/** What it shares with the driver's thread. */
export interface ShadowController {
  readonly sq: Int32Array
  readonly cq: Int32Array
  readonly doorbells: Int32Array
  readonly eventIndexes: Int32Array
  /** Writes of the doorbell's register; then, 1 where it is to end. */
  readonly register: Int32Array
  /** Of the submission queue's word in `doorbells`. */
  readonly index: number
  readonly queue: number
}

const { sq, cq, doorbells, eventIndexes, register, index, queue } = workerData as ShadowController
const entries = sq.length / 16
let [head, tail, phase] = [0, 0, 1]

function work(): void {
  do {
    const announced = Atomics.load(doorbells, index)
    while (head !== announced) {
      const cid = sq[head * 16]! >>> 16
      head = (head + 1) % entries
      cq[tail * 4 + 2] = head | (queue << 16)
      Atomics.store(cq, tail * 4 + 3, cid | (phase << 16))
      tail = (tail + 1) % entries
      if (tail === 0) phase ^= 1
    }
    Atomics.store(eventIndexes, index, head)
  } while (Atomics.load(doorbells, index) !== head)
}

for (;;) {
  const rung = Atomics.load(register, 0)
  work()
  if (Atomics.load(register, 1) === 1) break
  Atomics.wait(register, 0, rung)
}
