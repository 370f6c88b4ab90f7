import { getEventListeners } from 'node:events'
import type { Transport } from '@uaccel/core'
import { DmaDomain, DmaRegion } from '@uaccel/memory'
import { leaks, type Resources, resources } from '../resources.js'
import type { VirtualTime } from './virtual-time.js'

/** What the process holds: as the kernel counts it, its timers, and listeners for what happens to the process. */
export interface Held extends Resources {
  readonly timers: readonly string[]
  readonly listeners: readonly string[]
}

export function held(time: VirtualTime): Held {
  const listeners = process
    .eventNames()
    .flatMap((name) => process.listeners(name as 'exit').map(() => String(name)))
  return { ...resources(), timers: time.pending, listeners }
}

/** What is held now and was not before, in words. */
export function gained(before: Held, after: Held): string[] {
  return [
    ...leaks(before, after),
    ...more(before.timers, after.timers).map((what) => `timer of ${what}`),
    ...more(before.listeners, after.listeners).map((what) => `listener for '${what}' of the process`),
  ]
}

function more(before: readonly string[], after: readonly string[]): string[] {
  const left = [...before]
  return after.filter((item) => {
    const at = left.indexOf(item)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** What a driver holds of a device: grows with each operation where one is forgotten. */
export interface DeviceHeld {
  readonly mappings: number
  readonly regions: number
  readonly listeners: number
  readonly timers: number
}

/** What each of them is, for a report. */
const nouns: Readonly<Record<keyof DeviceHeld, string>> = {
  mappings: 'IOMMU mapping(s)',
  regions: 'region(s) of DMA memory',
  listeners: "listener(s) for the end of the device ('abort' of its signal)",
  timers: 'timer(s)',
}

export function deviceGained(before: DeviceHeld, after: DeviceHeld): string[] {
  return (Object.keys(nouns) as (keyof DeviceHeld)[])
    .filter((kind) => after[kind] > before[kind])
    .map((kind) => `${after[kind]} ${nouns[kind]}, before ${before[kind]}`)
}

/** Has each region of DMA memory counted from now on, whatever allocates it. Answers how many there are, of domains that are there. */
export function countRegions(): () => number {
  const live = new Set<DmaRegion>()
  const { alloc } = DmaDomain.prototype
  const { free } = DmaRegion.prototype
  DmaDomain.prototype.alloc = function (...args) {
    const region = alloc.apply(this, args)
    live.add(region)
    return region
  }
  DmaRegion.prototype.free = function () {
    live.delete(this)
    free.call(this)
  }
  return () => {
    for (const region of live) if (region.buffer.destroyed) live.delete(region)
    return live.size
  }
}

export function listenersOf(signal: AbortSignal | undefined): number {
  return signal === undefined ? 0 : getEventListeners(signal, 'abort').length
}

/** A transport, and what was taken from it and not given back. */
export interface Watched {
  readonly transport: Transport
  /** IOMMU mappings for which no unmap was asked. */
  readonly mappings: ReadonlyMap<bigint, number>
  /** The mappings that were left when it was closed; undefined before. */
  readonly leftAtClose: readonly string[] | undefined
}

/** The same transport; counts DMA mappings, and runs `touched` before each register access. */
export function watched(transport: Transport, touched: () => void): Watched {
  const mappings = new Map<bigint, number>()
  let leftAtClose: readonly string[] | undefined
  const dma = follow(transport.dma, {
    map(request: { iova: bigint; sizeBytes: number }) {
      transport.dma.map(request as Parameters<typeof transport.dma.map>[0])
      mappings.set(request.iova, request.sizeBytes)
    },
    unmap(iova: bigint, sizeBytes: number) {
      mappings.delete(iova) // also where it fails: the device is gone, and its mappings with it
      transport.dma.unmap(iova as Parameters<typeof transport.dma.unmap>[0], sizeBytes)
    },
  })
  const access =
    (name: 'read' | 'write' | 'read64' | 'write64') =>
    (...args: unknown[]) => {
      touched()
      return (transport[name] as (...args: unknown[]) => unknown).apply(transport, args)
    }
  const followed = follow(transport, {
    dma,
    read: access('read'),
    write: access('write'),
    read64: access('read64'),
    write64: access('write64'),
    close() {
      leftAtClose ??= [...mappings].map(
        ([iova, bytes]) => `IOMMU mapping of ${bytes} bytes at 0x${iova.toString(16)}`,
      )
      return transport.close()
    },
  })
  return {
    transport: followed,
    mappings,
    get leftAtClose() {
      return leftAtClose
    },
  }
}

/** An object as it is, but for some members. */
function follow<T extends object>(target: T, instead: Readonly<Record<string, unknown>>): T {
  return new Proxy(target, {
    get(_target, key) {
      if (typeof key === 'string' && key in instead) return instead[key]
      const member: unknown = Reflect.get(target, key, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
