import type { TraceEvent } from './event.js'
import type { TraceNames } from './names.js'
import { JOB_QUEUE } from './ring.js'
import { type Told, TraceStory } from './story.js'

/**
 * An event of the Trace Event Format ("JSON Array Format", by Google, 2016), which Perfetto and chrome://tracing open. Times are in
 * microseconds, with a fraction.
 */
export type ChromeEvent =
  | { ph: 'M'; name: 'process_name' | 'thread_name'; ts: 0; pid: number; tid: number; args: { name: string } }
  | { ph: 'M'; name: 'thread_sort_index'; ts: 0; pid: number; tid: number; args: { sort_index: number } }
  | { ph: 'X'; name: string; cat: string; ts: number; dur: number; pid: number; tid: number; args: Args }
  | { ph: 'i'; name: string; cat: string; ts: number; s: 't'; pid: number; tid: number; args: Args }
  | { ph: 'C'; name: string; ts: number; pid: number; tid: number; args: { bytes: number } }

type Args = Readonly<Record<string, unknown>>

const PID = 1
/** Numbers of threads: a lane has so many places for what goes on in it at the same time. */
const PLACES = 4096

interface Slice {
  readonly lane: string
  readonly name: string
  readonly cat: string
  readonly from: bigint
  to: bigint | undefined
  args: Args
}

/** A lane of the picture, and until when each of its places is taken. */
class LanePlaces {
  readonly index: number
  readonly busy: bigint[] = [0n]

  constructor(index: number) {
    this.index = index
  }

  /** Slices of one place do not overlap; they come in the order of their beginnings. */
  place(from: bigint, to: bigint): number {
    const found = this.busy.findIndex((until) => until <= from)
    const at = found < 0 ? Math.min(this.busy.length, PLACES - 1) : found
    this.busy[at] = to
    return at
  }
}

/**
 * Makes a picture of events: process "device", and in it lanes for the host (commands, accesses, DMA mappings), for each queue (jobs
 * from submission to completion) and for the device (interrupts, and jobs while the device has them). Of what has no end in the trace the
 * slice goes on to its last event.
 */
export class PerfettoTrace {
  readonly #names: TraceNames
  readonly #story: TraceStory
  readonly #slices: Slice[] = []
  readonly #open = new Map<string, Slice>()
  readonly #instants: { readonly told: Told; readonly args: Args }[] = []
  readonly #mapped: { readonly timeNs: bigint; readonly bytes: number }[] = []
  #mappedBytes = 0
  #first: bigint | undefined
  #last = 0n
  #lost = 0

  constructor(names: TraceNames) {
    this.#names = names
    this.#story = new TraceStory(names)
  }

  /** Takes events in their order; `lost` of them were lost before. */
  add(events: readonly TraceEvent[], lost: number): void {
    this.#lost += lost
    for (const event of events) this.#take(event)
  }

  /** The whole of it, as JSON. */
  toJSON(): { displayTimeUnit: 'ns'; otherData: Record<string, string>; traceEvents: ChromeEvent[] } {
    const lanes = new Map<string, LanePlaces>()
    const laneOf = (name: string) => {
      const lane = lanes.get(name) ?? new LanePlaces(lanes.size)
      lanes.set(name, lane)
      return lane
    }
    for (const name of ['host', 'device']) laneOf(name)
    const first = this.#first ?? 0n
    const us = (timeNs: bigint) => Number(timeNs - first) / 1000
    const tidOf = (lane: LanePlaces, place: number) => 1 + lane.index * PLACES + place
    const drawn: ChromeEvent[] = []
    const slices = this.#slices.toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))
    for (const { lane, name, cat, from, to = this.#last, args } of slices) {
      const at = laneOf(lane)
      const tid = tidOf(at, at.place(from, to))
      drawn.push({ ph: 'X', name, cat, ts: us(from), dur: Number(to - from) / 1000, pid: PID, tid, args })
    }
    for (const { told, args } of this.#instants) {
      const tid = tidOf(laneOf(told.lane), 0)
      const { topic: cat, text: name, timeNs } = told
      drawn.push({ ph: 'i', name, cat, ts: us(timeNs), s: 't', pid: PID, tid, args })
    }
    for (const { timeNs, bytes } of this.#mapped)
      drawn.push({ ph: 'C', name: 'DMA mapped', ts: us(timeNs), pid: PID, tid: 1, args: { bytes } })
    const { device, driver } = this.#names
    const title = [device, driver === '' ? '' : `(${driver})`].filter((part) => part !== '').join(' ')
    const named: ChromeEvent[] = [
      { ph: 'M', name: 'process_name', ts: 0, pid: PID, tid: 0, args: { name: title || 'device' } },
      ...[...lanes].flatMap(([name, lane]) =>
        lane.busy.flatMap((_, place): ChromeEvent[] => {
          const tid = tidOf(lane, place)
          return [
            {
              ph: 'M',
              name: 'thread_name',
              ts: 0,
              pid: PID,
              tid,
              args: { name: place === 0 ? name : `${name} #${place + 1}` },
            },
            {
              ph: 'M',
              name: 'thread_sort_index',
              ts: 0,
              pid: PID,
              tid,
              args: { sort_index: order(name) * PLACES + place },
            },
          ]
        }),
      ),
    ]
    return {
      displayTimeUnit: 'ns',
      otherData: { device, driver, startNs: `${first}`, lostRecords: `${this.#lost}` },
      traceEvents: [...named, ...drawn],
    }
  }

  #take(event: TraceEvent): void {
    const told = this.#story.tell(event)
    const { timeNs, kind, lane, details, latency = {} } = told
    this.#first ??= timeNs
    // Threads tell in turn, so that times ascend; a file may say anything.
    if (timeNs < this.#first) return
    if (timeNs > this.#last) this.#last = timeNs
    const args = plain({ ...details, ...latency })
    const key = `${event.index}:${event.id}`
    const job = event.index === JOB_QUEUE ? `job ${event.id}` : `${lane}: ${event.id}`
    if (kind === 'commandBegin')
      this.#begin(`c${event.id}`, { lane, name: `${details.command}`, cat: 'commands', from: timeNs, args })
    else if (kind === 'submit') this.#begin(`q${key}`, { lane, name: job, cat: 'queue', from: timeNs, args })
    else if (kind === 'start')
      this.#begin(`d${key}`, { lane: 'device', name: job, cat: 'queue', from: timeNs, args })
    else if (kind === 'commandEnd') this.#end(`c${event.id}`, told, args)
    else if (kind === 'complete') {
      if (this.#open.has(`d${key}`)) this.#end(`d${key}`, told, args)
      this.#end(`q${key}`, told, args)
    } else {
      if (kind === 'dmaMap' || kind === 'dmaUnmap')
        this.#count(timeNs, kind === 'dmaMap' ? event.b : -event.b)
      this.#instants.push({ told, args })
    }
  }

  #count(timeNs: bigint, bytes: bigint): void {
    this.#mappedBytes = Math.max(0, this.#mappedBytes + Number(bytes))
    this.#mapped.push({ timeNs, bytes: this.#mappedBytes })
  }

  #begin(key: string, slice: Omit<Slice, 'to'>): void {
    const open = { ...slice, to: undefined }
    this.#open.set(key, open)
    this.#slices.push(open)
  }

  /** What began before the trace has no slice, and is told all the same. */
  #end(key: string, told: Told, args: Args): void {
    const slice = this.#open.get(key)
    this.#open.delete(key)
    if (slice === undefined) this.#instants.push({ told, args })
    else {
      slice.to = told.timeNs < slice.from ? slice.from : told.timeNs
      slice.args = { ...slice.args, ...args }
    }
  }
}

/** Host first, then queues by number, then the device. */
function order(lane: string): number {
  if (lane === 'host') return 0
  if (lane === 'jobs') return 1
  if (lane === 'device') return 2 ** 17
  return 2 + Number(lane.slice('queue '.length))
}

/** Values as JSON has them: addresses as text. */
function plain(value: Readonly<Record<string, unknown>>): Args {
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [
      key,
      typeof each === 'bigint'
        ? `0x${each.toString(16)}`
        : typeof each === 'object' && each !== null
          ? plain({ ...each })
          : each,
    ]),
  )
}
