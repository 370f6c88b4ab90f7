import {
  type AccessWidth,
  type Area,
  type IrqType,
  PciRegion,
  type RegionFile,
  type ResetKind,
  type Transport,
} from '@uaccel/core'
import type { IovaRange } from '@uaccel/memory'
import { Mapping } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { AutoClock } from './clock.js'
import { Faults } from './faults.js'
import { createFunction, type ModelFunction } from './function.js'
import type { ModelClock, ModelDefinition } from './types.js'
import { hex, type Violations } from './violations.js'

/** How a model is connected in this process. */
export interface LoopbackOptions<Options, Clock extends ModelClock = AutoClock> {
  /** What the model itself takes. */
  readonly model?: Options
  /** Default: an `AutoClock`. Tests that step time give a `ManualClock`. */
  readonly clock?: Clock
  readonly faults?: Faults
  /** Throw violations at the driver. Default true. */
  readonly strict?: boolean
  /** Offer the BARs' memory for mapping. Default true; otherwise every access is trapped. */
  readonly mapped?: boolean
  /** What the emulated IOMMU translates. Default: 39 bits without the window of the interrupt controller, as a virtual Intel IOMMU. */
  readonly apertures?: readonly IovaRange[]
  /** DMA mappings that may exist at once. Default 65,535, as a VFIO container. */
  readonly maxMappings?: number
}

/** A model as a transport, with the handles that a test pulls. */
export interface Loopback<Clock extends ModelClock = AutoClock> extends Transport {
  readonly function: ModelFunction
  readonly clock: Clock
  readonly faults: Faults
  readonly violations: Violations
  /** Throws where the driver broke a rule of the device. */
  assertClean(): void
  /** The device is gone from now on. */
  vanish(reason?: string): void
}

/** dma_entry_limit of drivers/vfio/vfio_iommu_type1.c. */
const MAX_MAPPINGS = 65_535
/** What iommufd reported for QEMU's intel-iommu: the gap is where message-signalled interrupts are written (Intel SDM 3A, 11.11). */
const APERTURES: readonly IovaRange[] = [
  { first: 0n, last: 0xfedf_ffffn },
  { first: 0xfef0_0000n, last: 0x7f_ffff_ffffn },
]

/**
 * Connects a model within this process: no privileges, no other process, and a debugger sees driver and device at
 * once. Memory and interrupts are real descriptors, so that the driver's paths are those of hardware.
 */
export function loopback<Options = object, Clock extends ModelClock = AutoClock>(
  definition: ModelDefinition<Options>,
  options: LoopbackOptions<Options, Clock> = {},
): Loopback<Clock> {
  const clock = options.clock ?? (new AutoClock() as ModelClock as Clock)
  const device = createFunction(definition, options.model ?? ({} as Options), {
    clock,
    faults: options.faults ?? new Faults(),
    strict: options.strict ?? true,
    mapped: options.mapped ?? true,
    dma: { ranges: options.apertures ?? APERTURES, maxMappings: options.maxMappings ?? MAX_MAPPINGS },
  })
  return new InProcess(device, clock)
}

class InProcess<Clock extends ModelClock> implements Loopback<Clock> {
  readonly identity
  readonly resets: readonly ResetKind[] = ['function']
  readonly function: ModelFunction
  readonly clock: Clock
  readonly regions
  readonly irqs
  readonly dma
  readonly faults
  readonly violations
  readonly #mappings = new Set<Mapping>()
  readonly #scratch = new DataView(new ArrayBuffer(8))
  #closed = false

  constructor(device: ModelFunction, clock: Clock) {
    this.function = device
    this.clock = clock
    this.identity = { kind: 'loopback', address: device.identity.name, emulated: true } as const
    this.regions = device.regions
    this.irqs = device.irqs
    this.dma = device.dma
    this.faults = device.faults
    this.violations = device.violations
  }

  assertClean(): void {
    this.function.assertClean()
  }

  vanish(reason?: string): void {
    this.faults.vanish(reason)
  }

  read(region: number, offset: number, width: AccessWidth): number {
    if (region !== PciRegion.CONFIG) return this.function.readBar(region, offset, width) as number
    const bytes = new Uint8Array(this.#scratch.buffer, 0, width)
    this.function.regionRead(region, offset, bytes)
    if (width === 4) return this.#scratch.getUint32(0, true)
    return width === 2 ? this.#scratch.getUint16(0, true) : this.#scratch.getUint8(0)
  }

  write(region: number, offset: number, width: AccessWidth, value: number): void {
    if (region !== PciRegion.CONFIG) {
      this.function.writeBar(region, offset, width, value)
      return
    }
    this.#scratch.setUint32(0, value, true)
    this.function.regionWrite(region, offset, new Uint8Array(this.#scratch.buffer, 0, width))
  }

  read64(region: number, offset: number): bigint {
    if (region !== PciRegion.CONFIG) return this.function.readBar(region, offset, 8) as bigint
    this.function.regionRead(region, offset, new Uint8Array(this.#scratch.buffer))
    return this.#scratch.getBigUint64(0, true)
  }

  write64(region: number, offset: number, value: bigint): void {
    if (region !== PciRegion.CONFIG) {
      this.function.writeBar(region, offset, 8, value)
      return
    }
    this.#scratch.setBigUint64(0, value, true)
    this.function.regionWrite(region, offset, new Uint8Array(this.#scratch.buffer))
  }

  /** Memory and config space in one go; registers in the widest aligned accesses, as the kernel does it. */
  readBytes(region: number, offset: number, into: Uint8Array): void {
    if (this.#isPlain(region, offset, into.length)) this.function.regionRead(region, offset, into)
    else forEachAccess(offset, into, (at, bytes) => this.function.regionRead(region, at, bytes))
  }

  writeBytes(region: number, offset: number, from: Uint8Array): void {
    if (this.#isPlain(region, offset, from.length)) this.function.regionWrite(region, offset, from)
    else forEachAccess(offset, from, (at, bytes) => this.function.regionWrite(region, at, bytes))
  }

  map(region: number, { offset, sizeBytes }: Area): Mapping {
    this.function.checkPresent()
    const within = this.regions[region]?.mappable.some(
      (area) => offset >= area.offset && offset + sizeBytes <= area.offset + area.sizeBytes,
    )
    const file = this.function.regionFd(region)
    if (!within || file === undefined) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${hex(sizeBytes)} bytes at ${hex(offset)} of region ${region} of ${this.identity.address} cannot be mapped. Map pages of its mappable areas, or access it by calls.`,
      )
    }
    const mapping = Mapping.map({
      fd: file.fd,
      offset: file.offset + offset,
      sizeBytes,
      dontFork: true,
      label: `region ${region} of ${this.identity.address}`,
    })
    this.#mappings.add(mapping)
    return mapping
  }

  regionFile(region: number, { offset }: Area): RegionFile {
    this.function.checkPresent()
    const file = this.function.regionFd(region)
    if (file === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `Region ${region} of ${this.identity.address} has no memory behind it.`,
      )
    }
    return { fd: file.fd, offset: file.offset + offset }
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    if (type === 'err' || type === 'req') {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${type} of ${this.identity.address} is the transport's own: listen with onLost() or onRequest().`,
      )
    }
    this.function.checkPresent()
    this.function.setIrqs(type, 0, [])
    if (fds.length > 0) this.function.setIrqs(type, 0, fds)
  }

  disableIrqs(type: IrqType): void {
    this.function.checkPresent()
    this.function.setIrqs(type, 0, [])
  }

  maskIrq(type: IrqType, vector: number): void {
    this.function.maskIrq(type, vector, true)
  }

  unmaskIrq(type: IrqType, vector: number): void {
    this.function.maskIrq(type, vector, false)
  }

  triggerIrq(type: IrqType, vector: number): void {
    this.function.triggerIrq(type, vector)
  }

  async reset(): Promise<void> {
    this.function.checkPresent()
    const live = this.#live()
    if (live > 0) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${live} mapping(s) of ${this.identity.address} are in use; on hardware they would fault after a reset. Revoke them first.`,
      )
    }
    this.function.reset()
  }

  onLost(listener: Parameters<Transport['onLost']>[0]): () => void {
    return this.function.onLost(listener)
  }

  onRequest(listener: Parameters<Transport['onRequest']>[0]): () => void {
    return this.function.onRequest(listener)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const mapping of this.#mappings) mapping.revoke()
    this.#mappings.clear()
    this.function.close()
  }

  /** Mappings not taken back yet. */
  #live(): number {
    for (const mapping of this.#mappings) if (mapping.revoked) this.#mappings.delete(mapping)
    return this.#mappings.size
  }

  #isPlain(region: number, offset: number, length: number): boolean {
    this.function.checkRange(region, offset, length)
    if (region === PciRegion.CONFIG) return true
    return this.function.isMemory(region, offset, length)
  }
}

/** Cuts a range into naturally aligned accesses of at most 4 bytes. */
function forEachAccess(
  offset: number,
  bytes: Uint8Array,
  access: (at: number, part: Uint8Array) => void,
): void {
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done
    const left = bytes.length - done
    const width = at % 4 === 0 && left >= 4 ? 4 : at % 2 === 0 && left >= 2 ? 2 : 1
    access(at, bytes.subarray(done, done + width))
    done += width
  }
}
