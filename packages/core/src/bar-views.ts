import type { AccelError } from '@uaccel/uapi'
import type { Place } from './accessors.js'
import { BarTrap, BarWindow, contains, pagesOf } from './mmio.js'
import type { RegisterEntry } from './registers.js'
import type { OpenWindow } from './share/owner.js'
import type { Area, RegionInfo, Transport } from './transport.js'

/** All ways into a device's BARs that were handed out: they are taken back together, and restored together. */
export class BarViews {
  readonly #transport: Transport
  readonly #defer: (dispose: () => void) => () => void
  readonly #gone: () => AccelError
  readonly #windows = new Set<BarWindow>()
  readonly #traps = new Set<BarTrap>()

  /**
   * @param defer Has a view taken back at release, each in its turn.
   * @param gone Why a view that was taken back is.
   */
  constructor(transport: Transport, defer: (dispose: () => void) => () => void, gone: () => AccelError) {
    this.#transport = transport
    this.#defer = defer
    this.#gone = gone
  }

  /** Maps whole pages of the region. */
  window(region: RegionInfo, area: Area, label: string): BarWindow {
    return this.open(region, area, label).window
  }

  /** As {@link window}, to be closed before the release. */
  open(region: RegionInfo, area: Area, label: string): OpenWindow {
    const mapping = this.#transport.map(region.index, area)
    const window = new BarWindow(region.index, area, label, mapping)
    this.#windows.add(window)
    const revoke = () => {
      window.revoke(this.#gone())
      this.#windows.delete(window)
    }
    const forget = this.#defer(revoke)
    return {
      window,
      close: () => {
        forget()
        revoke()
      },
    }
  }

  /** Reaches the region by calls. */
  trap(region: RegionInfo, label: string): BarTrap {
    const trap = new BarTrap(this.#transport, region.index, label)
    this.#traps.add(trap)
    this.#defer(() => {
      trap.revoke(this.#gone())
      this.#traps.delete(trap)
    })
    return trap
  }

  /** Where each register is reached: in a window where it can be mapped and `mapped` allows it, else by calls. */
  places(
    region: RegionInfo,
    entries: readonly RegisterEntry[],
    label: string,
    mapped: boolean,
  ): (entry: RegisterEntry) => Place {
    const trap = this.trap(region, label)
    const windows = mapped ? this.#mapAreas(region, entries, label) : []
    return (entry) => {
      const window = windows.find(({ area }) => contains(area, entry.offset, entry.width / 8))
      return window === undefined ? { trap } : { window, windowOffset: window.area.offset }
    }
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

  #mapAreas(region: RegionInfo, entries: readonly RegisterEntry[], label: string): BarWindow[] {
    return region.mappable.flatMap((area) => {
      const inside = entries.filter((e) => contains(area, e.offset, e.width / 8))
      if (inside.length === 0) return []
      const end = Math.max(...inside.map((e) => e.offset + e.width / 8))
      return [this.window(region, pagesOf(area, inside[0].offset, end), label)]
    })
  }
}

/** The pages of a region that can be mapped and hold bytes `first` to `end` (exclusive). */
export function areasWithin(region: RegionInfo, first: number, end: number): Area[] {
  return region.mappable.flatMap((area) => {
    const from = Math.max(first, area.offset)
    const to = Math.min(end, area.offset + area.sizeBytes)
    return from < to ? [pagesOf(area, from, to)] : []
  })
}
