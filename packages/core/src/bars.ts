import { abi } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { Mapped, Place, Trace } from './accessors.js'
import {
  BarTrap,
  BarWindow,
  buildBar,
  contains,
  MappedMmio,
  type Mmio,
  pagesOf,
  TrappedMmio,
} from './mmio.js'
import type { RegisterEntry, RegisterMap } from './registers.js'
import type { OpenWindow, ShareHost } from './share/owner.js'
import type { DeviceTap } from './tap.js'
import { type Area, PciRegion, type RegionFile, type RegionInfo, type Transport } from './transport.js'

/** How a BAR is mapped. */
export interface MapBarOptions {
  /** Reaches every register by calls. */
  readonly trapped?: boolean
}

/** A part of a BAR. */
export interface MapMemoryOptions extends MapBarOptions {
  /** Bytes from the start of the BAR, a multiple of 8; default 0. */
  readonly offset?: number
  /** Default: up to the end of the BAR. */
  readonly sizeBytes?: number
}

/** What the BARs need of their device. */
export interface BarsHost {
  readonly name: string
  /** Reaches every BAR by calls. */
  readonly trapBars: boolean
  readonly trace: Trace | undefined
  /** Throws while the device cannot be reached. */
  checkReachable(): void
  /** Has a view taken back at release, each in its turn. */
  defer(dispose: () => void): () => void
  /** Why a view that was taken back is. */
  gone(): AccelError
}

/** The BARs of a device. All ways into them that were handed out are taken back together, and restored together. */
export class Bars {
  readonly #transport: Transport
  readonly #host: BarsHost
  readonly #windows = new Set<BarWindow>()
  readonly #traps = new Set<BarTrap>()
  /** What drivers called registers, by region: for who follows the device later. */
  readonly #maps = new Map<number, Set<RegisterMap>>()
  #tap: DeviceTap | undefined

  constructor(transport: Transport, host: BarsHost) {
    this.#transport = transport
    this.#host = host
  }

  /** See `Device.mapBar`. */
  registers<D>(index: number, map: RegisterMap<D>, { trapped = false }: MapBarOptions): Mapped<D> {
    const region = this.#region(index, map.sizeBytes)
    const { trapBars, trace } = this.#host
    this.#name(index, map as RegisterMap)
    this.#transport.describe?.(index, map)
    return buildBar(map, this.#places(region, map.entries, !trapped && !trapBars), trace)
  }

  /** See `Device.mapMemory`. */
  memory(index: number, options: MapMemoryOptions): Mmio {
    const { offset = 0, trapped = false } = options
    const sizeBytes = this.#checkPart(index, offset, options.sizeBytes)
    const region = this.#region(index, offset + sizeBytes)
    const area = region.mappable.find((a) => contains(a, offset, sizeBytes))
    if (area === undefined || sizeBytes === 0 || trapped || this.#host.trapBars)
      return new TrappedMmio(this.#trap(region), this.#label(index), offset, sizeBytes)
    const { window } = this.#open(region, pagesOf(area, offset, offset + sizeBytes))
    return new MappedMmio(window, offset - window.area.offset, sizeBytes)
  }

  /** All that can be mapped of a part of a BAR, in windows of its own, for a worker thread. */
  openShared(index: number, offset: number, wanted: number | undefined): ReturnType<ShareHost['open']> {
    const sizeBytes = this.#checkPart(index, offset, wanted)
    const region = this.#region(index, offset + sizeBytes)
    const areas = areasWithin(region, offset, offset + sizeBytes)
    const label = this.#label(index)
    if (areas.length === 0 || this.#host.trapBars) {
      const why = this.#host.trapBars
        ? 'this device was opened with trapBars'
        : 'its transport maps nothing of it'
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${label} cannot be shared with a worker thread: ${why}, and calls of the transport belong to the thread that opened it`,
      )
    }
    return { label, sizeBytes, windows: areas.map((area) => this.#open(region, area)) }
  }

  /** Makes a descriptor of a dma-buf. Errors as for `Device.exportBar`. */
  exportDmaBuf(index: number, options: Omit<MapMemoryOptions, 'trapped'>): number {
    const { offset = 0 } = options
    const sizeBytes = this.#checkPart(index, offset, options.sizeBytes)
    this.#region(index, offset + sizeBytes)
    const fd = this.#transport.exportDmaBuf?.(index, { offset, sizeBytes })
    if (fd !== undefined) return fd
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${this.#label(index)} was to be exported as a dma-buf, which takes kernel VFIO of Linux 6.19 or later`,
    )
  }

  /** See `Device.barFile`. */
  file(index: number, options: Omit<MapMemoryOptions, 'trapped'>): RegionFile {
    const { offset = 0 } = options
    const sizeBytes = this.#checkPart(index, offset, options.sizeBytes)
    const { mappable } = this.#region(index, offset + sizeBytes)
    if (offset % abi.PAGE_SIZE_BYTES !== 0 || sizeBytes % abi.PAGE_SIZE_BYTES !== 0 || sizeBytes === 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${this.#label(index)}: ${sizeBytes} bytes at offset ${offset} are not whole pages, and a process maps nothing less`,
      )
    }
    const transport = this.#transport
    if (transport.regionFile !== undefined && mappable.some((area) => contains(area, offset, sizeBytes)))
      return transport.regionFile(index, { offset, sizeBytes })
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${this.#label(index)} cannot be handed to another process: ` +
        (transport.regionFile === undefined
          ? `${transport.identity.kind} has no descriptor of it that gives no more of the device`
          : 'its transport does not map that part of it'),
    )
  }

  /** Has a tap follow all that is reached, or nobody. */
  follow(tap: DeviceTap | undefined): void {
    this.#tap = tap
    for (const [region, maps] of this.#maps) for (const map of maps) tap?.named(region, map)
    for (const window of this.#windows) window.tap = tap
    for (const trap of this.#traps) trap.follow(tap)
  }

  #name(region: number, map: RegisterMap): void {
    const maps = this.#maps.get(region) ?? new Set()
    this.#maps.set(region, maps)
    if (maps.has(map)) return
    maps.add(map)
    this.#tap?.named(region, map)
  }

  /** Ends all access. */
  revoke(reason: AccelError): void {
    for (const window of this.#windows) window.revoke(reason)
    for (const trap of this.#traps) trap.revoke(reason)
  }

  /** Maps everything again in its place. */
  restore(): void {
    for (const window of this.#windows) window.expose(this.#transport.map(window.region, window.area))
    for (const trap of this.#traps) trap.restore()
  }

  /** Maps whole pages of the region. */
  #open(region: RegionInfo, area: Area): OpenWindow {
    const mapping = this.#transport.map(region.index, area)
    const window = new BarWindow(region.index, area, this.#label(region.index), mapping)
    this.#windows.add(window)
    if (this.#tap !== undefined) window.tap = this.#tap
    const revoke = () => {
      window.revoke(this.#host.gone())
      this.#windows.delete(window)
    }
    const forget = this.#host.defer(revoke)
    return {
      window,
      close: () => {
        forget()
        revoke()
      },
    }
  }

  /** Reaches the region by calls. */
  #trap(region: RegionInfo): BarTrap {
    const trap = new BarTrap(this.#transport, region.index, this.#label(region.index))
    this.#traps.add(trap)
    trap.follow(this.#tap)
    this.#host.defer(() => {
      trap.revoke(this.#host.gone())
      this.#traps.delete(trap)
    })
    return trap
  }

  /** Where each register is reached: in a window where it can be mapped and `mapped` allows it, else by calls. */
  #places(
    region: RegionInfo,
    entries: readonly RegisterEntry[],
    mapped: boolean,
  ): (entry: RegisterEntry) => Place {
    const trap = this.#trap(region)
    const windows = mapped ? this.#mapAreas(region, entries) : []
    return (entry) => {
      const window = windows.find(({ area }) => contains(area, entry.offset, entry.width / 8))
      return window === undefined ? { trap } : { window, windowOffset: window.area.offset }
    }
  }

  #mapAreas(region: RegionInfo, entries: readonly RegisterEntry[]): BarWindow[] {
    return region.mappable.flatMap((area) => {
      const inside = entries.filter((e) => contains(area, e.offset, e.width / 8))
      if (inside.length === 0) return []
      const end = Math.max(...inside.map((e) => e.offset + e.width / 8))
      return [this.#open(region, pagesOf(area, inside[0].offset, end)).window]
    })
  }

  /** The size of a part of a BAR, by default up to its end. */
  #checkPart(index: number, offset: number, wanted: number | undefined): number {
    const sizeBytes = wanted ?? (this.#transport.regions[index]?.sizeBytes ?? 0) - offset
    if (
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      offset % 8 === 0 &&
      Number.isSafeInteger(sizeBytes) &&
      sizeBytes >= 0
    )
      return sizeBytes
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `BAR ${index}: ${sizeBytes} bytes at offset ${offset}, wanted a multiple of 8 and a size`,
    )
  }

  /** The BAR, which has that many bytes. */
  #region(index: number, endBytes: number): RegionInfo {
    this.#host.checkReachable()
    const region =
      Number.isInteger(index) && index >= 0 && index <= PciRegion.BAR5
        ? this.#transport.regions[index]
        : undefined
    if (region === undefined || region.sizeBytes === 0) {
      const bars = this.#transport.regions
        .filter((r) => r.index <= PciRegion.BAR5 && r.sizeBytes > 0)
        .map((r) => r.index)
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `${this.#host.name} has no BAR ${index}; it has ${bars.join(', ') || 'none'}`,
      )
    }
    if (endBytes > region.sizeBytes) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#label(index)} has ${region.sizeBytes} bytes, and ${endBytes} were wanted: another device or revision?`,
      )
    }
    return region
  }

  #label(index: number): string {
    return `BAR ${index} of ${this.#host.name}`
  }
}

/** The pages of a region that can be mapped and hold bytes `first` to `end` (exclusive). */
function areasWithin(region: RegionInfo, first: number, end: number): Area[] {
  return region.mappable.flatMap((area) => {
    const from = Math.max(first, area.offset)
    const to = Math.min(end, area.offset + area.sizeBytes)
    return from < to ? [pagesOf(area, from, to)] : []
  })
}
