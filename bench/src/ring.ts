import { type Mmio, openDevice, type Transport } from '@uaccel/core'
import { Npu, type NpuContext } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { NpuRegisters } from '@uaccel/driver-npu/registers'
import { CompletionRing, DmaBuffer, type DmaMapRequest, ProducerRing, withOwnCode } from '@uaccel/memory'
import { defineModel, loopback, ManualClock } from '@uaccel/model'
import { Mapping } from '@uaccel/sys'
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
export const doorbellDevice = defineModel({
  identity: { name: 'doorbells', vendor: 0x1234, device: 0x0002, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32', memory: [{ name: 'page', offset: 0, sizeBytes: 4096 }] },
  ],
  interrupts: {},
  create: () => ({ read: () => undefined, write: () => false, reset: () => {} }),
})

/** The device's part, the same as in `c/ring.c`: completes everything up to the doorbell, at once. */
class InstantDevice {
  declare private readonly doorbells: Mmio
  declare private readonly sq: Int32Array
  declare private readonly cq: Int32Array
  /** The next entry of either ring, and the phase bit. */
  declare private readonly place: Int32Array

  constructor(doorbells: Mmio, sq: Int32Array, cq: Int32Array) {
    this.doorbells = doorbells
    this.sq = sq
    this.cq = cq
    this.place = new Int32Array(new ArrayBuffer(12))
    this.place[2] = 1 << PHASE.bit
  }

  work(): void {
    const { sq, cq, place } = this
    const tail = this.doorbells.read32(DOORBELL.SQ_TAIL)
    let taken = place[0]
    let slot = place[1]
    let phase = place[2]
    while (taken !== tail) {
      const at = (slot & 0xffff) * COMPLETION_WORDS
      cq[at] = sq[(taken & 0xffff) * DESCRIPTOR_WORDS] >>> 16
      cq[at + 1] = 1
      cq[at + 2] = 0
      cq[at + PHASE.word] = phase
      taken = (taken + 1) & (ENTRIES - 1)
      slot = (slot + 1) & (ENTRIES - 1)
      if (slot === 0) phase ^= 1 << PHASE.bit
    }
    place[0] = taken
    place[1] = slot
    place[2] = phase
  }
}

/** How the ring is used: descriptors for one doorbell, and whether all of a descriptor is written or three words of it. */
interface RingUse {
  readonly batch: number
  readonly fill: 'whole' | 'patch'
}

/** The driver's part: rings in DMA memory, a doorbell in a BAR. Its turn has code of its own, as the queues of the NPU's and the NVMe driver. */
class RingDriver {
  declare private readonly doorbells: Mmio
  declare private readonly sq: ProducerRing
  declare private readonly cq: CompletionRing
  declare private readonly device: InstantDevice
  declare private readonly template: Int32Array
  declare private readonly batch: number
  declare private readonly whole: boolean
  declare private readonly ownSubmit: () => void
  declare private readonly ownWork: () => void
  declare private readonly ownTake: () => number

  constructor(memory: DmaBuffer, doorbells: Mmio, { batch, fill }: RingUse) {
    const sq = memory.i32.subarray(0, ENTRIES * DESCRIPTOR_WORDS)
    const cq = memory.i32.subarray(sq.length, sq.length + ENTRIES * COMPLETION_WORDS)
    this.template = Int32Array.from({ length: DESCRIPTOR_WORDS }, (_, i) => i + 1)
    for (let at = 0; at < sq.length; at += DESCRIPTOR_WORDS) sq.set(this.template, at)
    this.doorbells = doorbells
    this.sq = new ProducerRing({ words: sq, entries: ENTRIES, entryBytes: DESCRIPTOR_BYTES })
    this.cq = new CompletionRing({
      words: cq,
      entries: ENTRIES,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    this.device = new InstantDevice(doorbells, sq, cq)
    this.batch = batch
    this.whole = fill === 'whole'
    this.ownSubmit = withOwnCode(makeSubmit)(this)
    this.ownWork = withOwnCode(makeWork)(this.device)
    this.ownTake = withOwnCode(makeTake)(this)
    doorbells.write32(DOORBELL.SQ_TAIL, 0)
  }

  run(operations: number): void {
    const { batch, ownSubmit, ownWork, ownTake } = this
    let sum = 0
    let wanted = 0
    for (let done = 0; done < operations; done += batch) {
      ownSubmit()
      ownWork()
      sum = (sum + ownTake()) | 0
      wanted = (wanted + (batch * (batch - 1)) / 2) | 0
    }
    expect(sum, wanted, 'sum of the completions')
  }

  submit(): void {
    const { sq, template, whole } = this
    const { words } = sq
    const count = Math.min(this.batch, sq.free)
    for (let id = 0; id < count; id++) {
      const at = sq.at(id)
      if (whole) copyDescriptor(words, at, template)
      words[at] = template[0] | (id << 16)
      words[at + 2] = id
      words[at + 3] = 0
    }
    sq.push(count)
    this.doorbells.write32(DOORBELL.SQ_TAIL, sq.tail)
  }

  /** Answers the sum of what was completed. */
  take(): number {
    const { sq, cq } = this
    const { words } = cq
    let sum = 0
    const taken = cq.ready(sq.pending)
    for (let i = 0; i < taken; i++) sum = (sum + words[cq.at(i)]) | 0
    cq.advance(taken)
    this.doorbells.write32(DOORBELL.CQ_HEAD, cq.head)
    sq.consumed((sq.head + taken) & (ENTRIES - 1))
    return sum
  }
}

const makeSubmit = (driver: { submit(): void }) => () => driver.submit()
const makeWork = (device: { work(): void }) => () => device.work()
const makeTake = (driver: { take(): number }) => () => driver.take()

/** Spelt out, as the NPU's driver does it. */
function copyDescriptor(to: Int32Array, at: number, from: Int32Array): void {
  to[at] = from[0]
  to[at + 1] = from[1]
  to[at + 2] = from[2]
  to[at + 3] = from[3]
  to[at + 4] = from[4]
  to[at + 5] = from[5]
  to[at + 6] = from[6]
  to[at + 7] = from[7]
  to[at + 8] = from[8]
  to[at + 9] = from[9]
  to[at + 10] = from[10]
  to[at + 11] = from[11]
  to[at + 12] = from[12]
  to[at + 13] = from[13]
  to[at + 14] = from[14]
  to[at + 15] = from[15]
}

/** Submission and completion: the rings of `@uaccel/memory` alone, then the NPU driver's whole path. */
export async function ring(measure: Measure): Promise<void> {
  const transport = loopback(doorbellDevice)
  const device = openDevice(transport)
  const memories: DmaBuffer[] = []
  try {
    await device.enable()
    const doorbells = await device.mapMemory(0)
    const contests: readonly (readonly [string, RingUse])[] = [
      ['submission + completion, 1 per doorbell', { batch: 1, fill: 'whole' }],
      ['submission + completion, 16 per doorbell', { batch: 16, fill: 'whole' }],
      ['submission + completion, 16 per doorbell, 3 words patched', { batch: 16, fill: 'patch' }],
    ]
    for (const [name, use] of contests) {
      const memory = DmaBuffer.create(ENTRIES * (DESCRIPTOR_BYTES + COMPLETION_BYTES), { name: 'rings' })
      memories.push(memory)
      const driver = new RingDriver(memory, doorbells, use)
      const baseline = startBaseline('ring', [String(use.batch), use.fill])
      try {
        await measure({
          rows: [name],
          unit: 'ns',
          operations: 1_600_000,
          typescript: (operations) => timed(operations, (count) => driver.run(count)),
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

/** Completes the descriptors of an NPU queue at once, in place of the model: `device()` of `c/npu-queue.c`. */
export class InstantNpu {
  readonly #sq: Int32Array
  readonly #cq: Int32Array
  readonly #status: Int32Array
  #slot = 0
  #tail = 0
  #phase = 1 << PHASE.bit

  constructor(sq: Int32Array, cq: Int32Array, status: Int32Array) {
    this.#sq = sq
    this.#cq = cq
    this.#status = status
    this.#stayAwake()
  }

  work(count: number): void {
    for (let i = 0; i < count; i++) {
      const at = this.#slot * COMPLETION_WORDS
      this.#cq[at] = 0
      this.#cq[at + 1] = 1
      this.#cq[at + PHASE.word] = (this.#sq[this.#slot * DESCRIPTOR_WORDS] >>> 16) | this.#phase
      this.#slot = (this.#slot + 1) & (ENTRIES - 1)
      if (this.#slot === 0) this.#phase ^= 1 << PHASE.bit
    }
    this.#tail += count
    this.#stayAwake()
  }

  /** The tail at which the driver has to wake the device (docs/devices/npu.md, 5.4): one that is far ahead. */
  #stayAwake(): void {
    this.#status[0] = this.#tail + (1 << 30)
  }
}

/** Jobs of one step through the driver's queue: all its bookkeeping, without the time that a device takes. */
async function npuQueue(measure: Measure): Promise<void> {
  const clock = new ManualClock()
  const transport = loopback(npuModel, { clock })
  const device = openDevice(transport)
  const baseline = startBaseline('npu-queue')
  const memories: Mapping[] = []
  const stepping = setInterval(() => clock.step(1_000_000), 1) // the device gets ready, its queues start and stop
  try {
    const mapped = memoryOf(transport, memories)
    const npu = await Npu.start(device, { irq: 'poll' })
    const context = await npu.createContext({ ringEntries: ENTRIES })
    const run = jobsOf(context, instantNpu(transport, 0, mapped))
    await measure({
      rows: ['NPU driver: submit a job', 'NPU driver: complete a job'],
      unit: 'ns',
      operations: NPU_OPERATIONS,
      typescript: run,
      c: (operations) => baseline.run(operations),
    })
  } finally {
    await baseline.close()
    await device.release()
    clearInterval(stepping)
    for (const memory of memories) memory.revoke()
    await transport.close()
  }
}

/** Operations of one run of {@link jobsOf}. */
export const NPU_OPERATIONS = 1000 * (ENTRIES - 1)

/**
 * Jobs of one step through a queue that an instant device completes. Answers nanoseconds for the submission of each, and for its completion,
 * without those of the device.
 */
export function jobsOf(context: NpuContext, instant: InstantNpu): (operations: number) => [number, number] {
  const buffer = context.allocate(8)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }])
  let succeeded = 0
  const done = (error: unknown) => {
    if (error === undefined) succeeded++
  }
  const batch = ENTRIES - 1
  return (operations) => {
    let submitMs = 0
    let completeMs = 0
    let count = 0
    succeeded = 0
    for (; count < operations; count += batch) {
      let start = performance.now()
      for (let i = 0; i < batch; i++) context.submit(job, done)
      context.flush()
      submitMs += performance.now() - start
      instant.work(batch)
      start = performance.now()
      context.poll()
      completeMs += performance.now() - start
    }
    expect(succeeded, count, 'jobs that succeeded')
    return [(submitMs * 1e6) / count, (completeMs * 1e6) / count]
  }
}

/** An instant device for the rings that a queue of the NPU was given. */
export function instantNpu(
  transport: Transport,
  index: number,
  mapped: ReturnType<typeof memoryOf>,
): InstantNpu {
  const ring = (base: string) => {
    const read = (half: string) =>
      transport.read(0, NpuRegisters.find(`QUEUE[${index}].${base}_${half}`)!.offset, 4)
    return mapped(read('LO'), read('HI'))
  }
  return new InstantNpu(ring('SQ_BASE'), ring('CQ_BASE'), ring('STATUS_BASE'))
}

/** Host memory by I/O address, as the device sees it. What is mapped before this call is not found. */
export function memoryOf(transport: Transport, memories: Mapping[]) {
  const { dma } = transport
  const requests: DmaMapRequest[] = []
  const map = dma.map.bind(dma)
  dma.map = (request) => {
    requests.push(request)
    map(request)
  }
  return (low: number, high: number): Int32Array => {
    const iova = (BigInt(high) << 32n) | BigInt(low)
    const found = requests.find((r) => iova >= r.iova && iova < r.iova + BigInt(r.sizeBytes))
    if (found === undefined) throw new Error(`nothing is mapped at 0x${iova.toString(16)}`)
    const memory = Mapping.map({ fd: found.fd, offset: found.fdOffset, sizeBytes: found.sizeBytes })
    memories.push(memory)
    return memory.window.i32.subarray(Number(iova - found.iova) / 4)
  }
}
