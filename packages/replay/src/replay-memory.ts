import type { DmaAccess, DmaMapper, DmaMapRequest, Iova } from '@uaccel/memory'
import { DmaSpace, type RemoteAccess, Violations } from '@uaccel/model'
import { isAccelError } from '@uaccel/uapi'
import type { RecordedDevice } from './header.js'
import { Kind } from './kinds.js'
import type { RecordedMapping, Session, Step } from './session.js'

const WORD_BYTES = 8
const LOW = 0xffff_ffffn

interface Live {
  readonly iova: bigint
  readonly sizeBytes: number
}

/** Memory that is not as a step has it. */
export interface Difference {
  readonly step: Step
  readonly index: number
  /** The first byte of the step that differs. */
  readonly at: number
  /** What is there, all of it. */
  readonly found: Buffer
}

/** What the memory needs to know of the replay that it belongs to. */
export interface MemoryHost {
  readonly session: Session
  checkPresent(): void
  /** A mapping is about to be made; throws where the recording has another one there. */
  mapping(id: number, sizeBytes: number, access: DmaAccess): void
  /** A mapping was made. */
  mapped(id: number): void
  unmapped(id: number): void
}

/**
 * The memory of a replay's driver. Mappings are those of the recording by their order; where in a mapping something is stays, what address
 * the mapping has may differ.
 */
export class ReplayMemory implements DmaMapper {
  readonly pageSizeBytes: number
  readonly maxMappings: number
  readonly locksMemory = false
  readonly #space: DmaSpace
  readonly #host: MemoryHost
  readonly #live = new Map<number, Live>()
  #count = 0

  constructor(device: RecordedDevice, requireSealed: boolean, host: MemoryHost) {
    this.#host = host
    this.pageSizeBytes = device.dma.pageSizeBytes
    this.maxMappings = device.dma.maxMappings ?? Number.POSITIVE_INFINITY
    this.#space = new DmaSpace(
      {
        name: `replay of ${device.address}`,
        addressBits: 64,
        violations: new Violations(),
        checkPresent: () => host.checkPresent(),
        checkMayTransfer: () => {},
      },
      { ranges: device.dma.ranges, maxMappings: this.maxMappings, requireSealed },
    )
  }

  ranges() {
    return this.#space.ranges()
  }

  get size(): number {
    return this.#space.size
  }

  map(request: DmaMapRequest): void {
    this.#add(request, () => this.#space.map(request))
  }

  addRemote(iova: Iova, sizeBytes: number, access: DmaAccess, remote: RemoteAccess): void {
    this.#add({ iova, sizeBytes, access }, () => this.#space.addRemote(iova, sizeBytes, access, remote))
  }

  unmap(iova: Iova, sizeBytes: number): void {
    this.#space.unmap(iova, sizeBytes)
    this.#forget(iova, iova + BigInt(sizeBytes))
  }

  unmapWithin(first: bigint, end: bigint): void {
    this.#space.unmapWithin(first, end)
    this.#forget(first, end)
  }

  clear(): void {
    this.#space.clear()
    this.#forget(0n, 1n << 64n)
  }

  /** Makes the next mapping the first of the recording. */
  rewind(): void {
    this.#count = 0
    this.#live.clear()
  }

  has(id: number): boolean {
    return this.#live.has(id)
  }

  /** Puts what a step holds into the driver's memory. False where the device may not write there. */
  put({ id, a, payload }: Step): boolean {
    try {
      this.#space.write(this.#live.get(id)!.iova + BigInt(a), payload)
      return true
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) return false
      throw error
    }
  }

  /**
   * True where a value is what the recording has, or the address of the same byte of the same mapping. Of 4 bytes, it may be either half of
   * an address.
   */
  isSame(recorded: bigint, came: bigint, sizeBytes: number, at: number): boolean {
    if (recorded === came) return true
    if (sizeBytes === 8) {
      return (
        this.#mappingsAt(at).some(
          ([{ iova, sizeBytes: size }, live]) =>
            recorded >= iova && recorded < iova + BigInt(size) && came === live.iova + recorded - iova,
        ) ||
        (this.isSame(recorded & LOW, came & LOW, 4, at) && this.isSame(recorded >> 32n, came >> 32n, 4, at))
      )
    }
    if (sizeBytes !== 4) return false
    return this.#mappingsAt(at).some(([{ iova, sizeBytes: size }, live]) => {
      const into = (recorded - iova) & LOW
      if (into < BigInt(size) && came === ((live.iova + into) & LOW)) return true
      return recorded === iova >> 32n && came === live.iova >> 32n
    })
  }

  /** What of the memory that the driver filled between two steps is not as it was, by what it was filled with last. */
  *differences(from: number, to: number): Generator<Difference> {
    const { steps } = this.#host.session
    for (let index = from; index < to; index++) {
      const step = steps[index]!
      if (step.kind !== Kind.driverMemory) continue
      const found = this.#get(step)
      const at = found === undefined ? undefined : this.#firstDifference(index, found, to)
      if (found !== undefined && at !== undefined) yield { step, index, at, found }
    }
  }

  /** What the driver's memory holds where a step has something; `undefined` where the device may not read it. */
  #get({ id, a, payload }: Step): Buffer | undefined {
    const live = this.#live.get(id)
    if (live === undefined) return undefined
    const bytes = Buffer.alloc(payload.length)
    try {
      this.#space.read(live.iova + BigInt(a), bytes)
      return bytes
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) return undefined
      throw error
    }
  }

  /** Where, in bytes, memory is not what a step has; `undefined` where it is, addresses taken by their mapping. */
  #firstDifference(index: number, found: Buffer, before: number): number | undefined {
    const { payload } = this.#host.session.steps[index]!
    for (let i = 0; i < payload.length; i += WORD_BYTES) {
      const end = Math.min(i + WORD_BYTES, payload.length)
      if (payload.compare(found, i, end, i, end) === 0) continue
      const isWord = end - i === WORD_BYTES
      if (isWord && this.isSame(payload.readBigUInt64LE(i), found.readBigUInt64LE(i), WORD_BYTES, before))
        continue
      if (!this.#isOverwritten(index, i, before)) return i
    }
    return undefined
  }

  /** True where a later step before `to` has something for that byte. */
  #isOverwritten(index: number, at: number, to: number): boolean {
    const { steps } = this.#host.session
    const { id, a } = steps[index]!
    for (let i = index + 1; i < to; i++) {
      const step = steps[i]!
      if (step.kind !== Kind.driverMemory && step.kind !== Kind.deviceMemory) continue
      if (step.id === id && step.a <= a + at && a + at < step.a + step.payload.length) return true
    }
    return false
  }

  #add(
    { iova, sizeBytes, access }: { iova: Iova; sizeBytes: number; access: DmaAccess },
    add: () => void,
  ): void {
    const id = this.#count
    this.#host.mapping(id, sizeBytes, access)
    add()
    this.#count++
    this.#live.set(id, { iova, sizeBytes })
    this.#host.mapped(id)
  }

  #forget(first: bigint, end: bigint): void {
    for (const [id, { iova, sizeBytes }] of this.#live) {
      if (iova < first || iova + BigInt(sizeBytes) > end) continue
      this.#live.delete(id)
      this.#host.unmapped(id)
    }
  }

  /** The recording's mappings at a step, each with what stands for it now. */
  #mappingsAt(at: number): [RecordedMapping, Live][] {
    const pairs: [RecordedMapping, Live][] = []
    for (const [id, live] of this.#live) {
      const recorded = this.#host.session.mappings[id]
      if (recorded !== undefined && recorded.from < at && at < recorded.to) pairs.push([recorded, live])
    }
    return pairs
  }
}
