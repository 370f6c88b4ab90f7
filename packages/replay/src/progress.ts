import { PciRegion } from '@uaccel/core'
import { Kind } from './kinds.js'
import type { Session, Step } from './session.js'

/** How many bytes an access has, whichever way it is recorded. */
export function accessBytes({ width, payload }: Step): number {
  return width === 0 ? payload.length : width
}

/** Where an access goes, as a key: the same for one of a register and for a copy of so many bytes. */
export function placeOf(region: number, offset: number, sizeBytes: number): string {
  return `${region} ${offset} ${sizeBytes}`
}

const key = (step: Step) => placeOf(step.index, step.a, accessBytes(step))

/** What the driver does in a fixed order. */
const ordered: ReadonlySet<number> = new Set([
  Kind.mmioWrite,
  Kind.irqArm,
  Kind.irqDisarm,
  Kind.resetBegin,
  Kind.power,
])
/** What the device does. */
const ofDevice: ReadonlySet<number> = new Set([Kind.irq, Kind.deviceMemory, Kind.lost, Kind.request])
/** What the driver does besides. How it masks its vectors is not looked at: transports do it too. */
const others: ReadonlySet<number> = new Set([Kind.mmioRead, Kind.dmaMap, Kind.dmaUnmap])

/** The reads of one place. */
interface Reads {
  readonly steps: readonly number[]
  /** The first that neither came nor was passed by a write. */
  head: number
  /** Passed by a write before they came. */
  readonly late: number[]
  /** The last that was answered. */
  last: number | undefined
  /** It was read. */
  came: boolean
  /** The driver writes there, too. */
  readonly written: boolean
}

/** The step that answers a read. `again`: it stands for another read, before it or to come. */
export interface Answer {
  readonly index: number
  readonly again?: 'before' | 'early'
}

/** Which steps of a session were replayed. Steps are named by their index. */
export class Progress {
  readonly #session: Session
  readonly #done: Uint8Array
  /** How many ordered steps come before a step. */
  readonly #segment: Uint32Array
  readonly #ordered: number[] = []
  readonly #driver: number[] = []
  readonly #device: number[] = []
  readonly #reads = new Map<string, Reads>()
  #orderedDone = 0
  #driverDone = 0
  #deviceDone = 0
  /** Up to here no read of the present segment is waited for. */
  #scanned = 0

  constructor(session: Session) {
    this.#session = session
    const { steps } = session
    this.#done = new Uint8Array(steps.length)
    this.#segment = new Uint32Array(steps.length)
    const reads = new Map<string, number[]>()
    const written = new Set<string>()
    for (const [i, step] of steps.entries()) {
      this.#segment[i] = this.#ordered.length
      const config =
        (step.kind === Kind.mmioRead || step.kind === Kind.mmioWrite) && step.index === PciRegion.CONFIG
      if (config) continue
      if (ordered.has(step.kind)) this.#ordered.push(i)
      if (ofDevice.has(step.kind)) this.#device.push(i)
      if (ordered.has(step.kind) || others.has(step.kind)) this.#driver.push(i)
      if (step.kind !== Kind.mmioRead && step.kind !== Kind.mmioWrite) continue
      const place = key(step)
      if (step.kind === Kind.mmioWrite) {
        written.add(place)
        continue
      }
      const list = reads.get(place)
      if (list === undefined) reads.set(place, [i])
      else list.push(i)
    }
    for (const [place, list] of reads)
      this.#reads.set(place, {
        steps: list,
        head: 0,
        late: [],
        last: undefined,
        came: false,
        written: written.has(place),
      })
  }

  /** The ordered step that is next; `undefined` at the end. */
  get nextOrdered(): number | undefined {
    return this.#ordered[this.#orderedDone]
  }

  /** The step of the driver's that is next, of all kinds; `undefined` at the end. */
  get nextOfDriver(): number | undefined {
    while (this.#done[this.#driver[this.#driverDone]!] === 1) this.#driverDone++
    return this.#driver[this.#driverDone]
  }

  /** The step of the device's that is next; `undefined` at the end. */
  get nextOfDevice(): number | undefined {
    return this.#device[this.#deviceDone]
  }

  passOfDevice(): void {
    this.#done[this.#device[this.#deviceDone]!] = 1
    this.#deviceDone++
  }

  /** Steps from the last ordered one that was replayed up to the next. */
  get segmentStart(): number {
    return this.#orderedDone === 0 ? 0 : this.#ordered[this.#orderedDone - 1]! + 1
  }

  finish(index: number): void {
    this.#done[index] = 1
    const step = this.#session.steps[index]!
    if (step.kind === Kind.mmioRead) this.#reads.get(key(step))!.came = true
    if (index === this.nextOrdered) this.#orderedDone++
  }

  isDone(index: number): boolean {
    return this.#done[index] === 1
  }

  /**
   * The read that answers one of this place: the next before the next ordered step, else one that such a step has overtaken, else the last one
   * again, where nothing was written there since, which is answered too while the next would be `tooSoon` (its arguments are the next and the
   * last), else the next to come of a place that is never written. `undefined` where there is none.
   */
  takeRead(place: string, tooSoon: (next: number, last: number) => boolean): Answer | undefined {
    const reads = this.#reads.get(place)
    if (reads === undefined) return undefined
    const start = this.segmentStart
    for (; reads.head < reads.steps.length && reads.steps[reads.head]! < start; reads.head++) {
      const index = reads.steps[reads.head]!
      if (this.#done[index] === 0 && !this.#isPolled(reads, reads.head)) reads.late.push(index)
    }
    const next = reads.steps[reads.head]
    let index: number | undefined
    if (next !== undefined && reads.last !== undefined && reads.last >= start && tooSoon(next, reads.last))
      return { index: reads.last, again: 'before' }
    if (next !== undefined && next < (this.nextOrdered ?? Number.POSITIVE_INFINITY)) {
      index = next
      reads.head++
    } else index = reads.late.shift()
    if (index === undefined) {
      if (reads.last !== undefined) return { index: reads.last, again: 'before' }
      // One that comes by the clock, such as a watchdog's, may come before a write that it came after.
      return next === undefined || reads.written ? undefined : { index: next, again: 'early' }
    }
    reads.last = index
    return { index }
  }

  /** A write to a place: what was read there before does not answer a further read. */
  forgetReads(place: string): void {
    const reads = this.#reads.get(place)
    if (reads !== undefined) reads.last = undefined
  }

  /** True where reads before a step, in the present segment, did not come yet. */
  readsBefore(index: number): boolean {
    const { steps } = this.#session
    const waits = (i: number) =>
      steps[i]!.kind === Kind.mmioRead && steps[i]!.index !== PciRegion.CONFIG && this.#done[i] === 0
    this.#scanned = Math.max(this.#scanned, this.segmentStart)
    while (this.#scanned < index && !waits(this.#scanned)) this.#scanned++
    return this.#scanned < index
  }

  /** What did not come and has to: of reads, those of places that were never read. How often others are read is the driver's patience. */
  left(): number[] {
    const optional = (i: number) => {
      const step = this.#session.steps[i]!
      if (step.kind === Kind.dmaUnmap) return true
      return step.kind === Kind.mmioRead && this.#reads.get(key(step))!.came
    }
    return [...this.#driver, ...this.#device]
      .filter((i) => this.#done[i] === 0 && !optional(i))
      .sort((a, b) => a - b)
  }

  /** Steps of the driver and the device, and how many of them were replayed. */
  get counts(): { readonly replayed: number; readonly total: number } {
    const all = [...this.#driver, ...this.#device]
    return { replayed: all.filter((i) => this.#done[i] === 1).length, total: all.length }
  }

  /** One of several reads of a place between two ordered steps: how many there are is the driver's patience. */
  #isPolled({ steps }: Reads, at: number): boolean {
    const segment = this.#segment[steps[at]!]
    const same = (other: number | undefined) => other !== undefined && this.#segment[other] === segment
    return same(steps[at - 1]) || same(steps[at + 1])
  }
}
