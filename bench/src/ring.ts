import { type Mmio, openDevice } from '@uaccel/core'
import { Npu } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { CompletionRing, DmaBuffer, ProducerRing } from '@uaccel/memory'
import { defineModel, loopback, ManualClock } from '@uaccel/model'
import { startBaseline } from './baseline.js'
import { expect, type Measure, timed } from './measure.js'

const ENTRIES = 256
const DESCRIPTOR_BYTES = 64
const DESCRIPTOR_WORDS = DESCRIPTOR_BYTES / 4
const COMPLETION_BYTES = 16
const COMPLETION_WORDS = COMPLETION_BYTES / 4
const PHASE = { word: 3, bit: 16 } as const
const DOORBELL = { SQ_TAIL: 0, CQ_HEAD: 4 } as const

/** A page of doorbells that is memory. */
const doorbellDevice = defineModel({
  identity: { name: 'doorbells', vendor: 0x1234, device: 0x0002, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32', memory: [{ name: 'page', offset: 0, sizeBytes: 4096 }] },
  ],
  interrupts: {},
  create: () => ({ read: () => undefined, write: () => false, reset: () => {} }),
})

/** The device's part, the same as in `c/ring.c`: completes everything up to the doorbell, at once. */
function instantDevice(doorbells: Mmio, sq: Int32Array, cq: Int32Array): () => void {
  let taken = 0
  let slot = 0
  let phase = 1 << PHASE.bit
  return () => {
    const tail = doorbells.read32(DOORBELL.SQ_TAIL)
    while (taken !== tail) {
      const at = slot * COMPLETION_WORDS
      cq[at] = sq[taken * DESCRIPTOR_WORDS] >>> 16
      cq[at + 1] = 1
      cq[at + 2] = 0
      cq[at + PHASE.word] = phase
      taken = (taken + 1) & (ENTRIES - 1)
      slot = (slot + 1) & (ENTRIES - 1)
      if (slot === 0) phase ^= 1 << PHASE.bit
    }
  }
}

/** Rings in DMA memory, a doorbell in a BAR. Answers the loop that submits and completes. */
function ringLoop(memory: DmaBuffer, doorbells: Mmio, batch: number): (operations: number) => void {
  const i32 = memory.i32
  const sqWords = i32.subarray(0, ENTRIES * DESCRIPTOR_WORDS)
  const cqWords = i32.subarray(sqWords.length, sqWords.length + ENTRIES * COMPLETION_WORDS)
  const sq = new ProducerRing({ words: sqWords, entries: ENTRIES, entryBytes: DESCRIPTOR_BYTES })
  const cq = new CompletionRing({
    words: cqWords,
    entries: ENTRIES,
    entryBytes: COMPLETION_BYTES,
    phaseWord: PHASE.word,
    phaseBit: PHASE.bit,
  })
  const template = Int32Array.from({ length: DESCRIPTOR_WORDS }, (_, i) => i + 1)
  const device = instantDevice(doorbells, sqWords, cqWords)

  return (operations) => {
    const submission = sq.words
    const completion = cq.words
    let sum = 0
    let wanted = 0
    for (let done = 0; done < operations; done += batch) {
      for (let i = 0; i < batch; i++) {
        const at = sq.next()
        if (at < 0) break
        submission[at] = template[0] | (i << 16)
        for (let word = 1; word < DESCRIPTOR_WORDS; word++) submission[at + word] = template[word]
        sq.push()
      }
      doorbells.write32(DOORBELL.SQ_TAIL, sq.tail)
      device()
      let taken = 0
      for (let at = cq.peek(); at >= 0; at = cq.peek()) {
        sum = (sum + completion[at]) | 0
        cq.advance()
        taken++
      }
      doorbells.write32(DOORBELL.CQ_HEAD, cq.head)
      sq.consumed((sq.head + taken) & (ENTRIES - 1))
      wanted = (wanted + (batch * (batch - 1)) / 2) | 0
    }
    expect(sum, wanted, 'sum of the completions')
  }
}

/** Submission and completion: the rings of `@uaccel/memory` alone, then the NPU driver's whole path. */
export async function ring(measure: Measure): Promise<void> {
  const transport = loopback(doorbellDevice)
  const device = openDevice(transport)
  const memories: DmaBuffer[] = []
  try {
    await device.enable()
    const doorbells = await device.mapMemory(0)
    for (const batch of [1, 16]) {
      const memory = DmaBuffer.create(ENTRIES * (DESCRIPTOR_BYTES + COMPLETION_BYTES), { name: 'rings' })
      memories.push(memory)
      const loop = ringLoop(memory, doorbells, batch)
      doorbells.write32(DOORBELL.SQ_TAIL, 0)
      const baseline = startBaseline('ring', [String(batch)])
      try {
        await measure({
          rows: [`submission + completion, ${batch} per doorbell`],
          unit: 'ns',
          operations: 1_600_000,
          typescript: (operations) => timed(operations, loop),
          c: (operations) => baseline.run(operations),
        })
      } finally {
        await baseline.close()
      }
    }
  } finally {
    for (const memory of memories) memory.destroy()
    await device.release()
    await transport.close()
  }
  await npuQueue(measure)
}

/** Jobs of one step through the driver's queue: all its bookkeeping, without the time that the model takes. */
async function npuQueue(measure: Measure): Promise<void> {
  const clock = new ManualClock()
  const transport = loopback(npuModel, { clock })
  const device = openDevice(transport)
  const baseline = startBaseline('npu-queue')
  const stepping = setInterval(() => clock.step(1_000_000), 1) // the device gets ready, its queues start and stop
  try {
    const npu = await Npu.start(device, { irq: 'poll' })
    const context = await npu.createContext({ ringEntries: ENTRIES })
    const buffer = context.allocate(8)
    const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }])
    let succeeded = 0
    const done = (error: unknown) => {
      if (error === undefined) succeeded++
    }
    const batch = ENTRIES - 1
    const run = (operations: number): [number] => {
      let spentMs = 0
      let count = 0
      succeeded = 0
      for (; count < operations; count += batch) {
        let start = performance.now()
        for (let i = 0; i < batch; i++) context.submit(job, done)
        context.flush()
        spentMs += performance.now() - start
        clock.step(10_000_000)
        start = performance.now()
        context.poll()
        spentMs += performance.now() - start
      }
      expect(succeeded, count, 'jobs that succeeded')
      return [(spentMs * 1e6) / count]
    }
    await measure({
      rows: ['NPU driver: submit and complete a job'],
      unit: 'ns',
      operations: 50 * batch,
      typescript: run,
      c: (operations) => baseline.run(operations),
    })
    await context.close()
  } finally {
    await baseline.close()
    await device.release()
    clearInterval(stepping)
    await transport.close()
  }
}
