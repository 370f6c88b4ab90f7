import { dispatchOperators, dispatchRow } from './dispatch.js'
import { eventfdPlaces } from './eventfd.js'
import type { Row } from './measure.js'
import { buildRow } from './nvme.js'
import { places, readRow, targetDepths } from './nvme-reads.js'

/** What a ratio is held to. */
export interface Target {
  readonly what: string
  /** The ratio, where it was measured. */
  readonly found: (rows: readonly Row[]) => number | undefined
  readonly atMost?: number
  readonly atLeast?: number
  /** Why it is missed, where it is. */
  readonly why: string
}

const rowOf = (rows: readonly Row[], name: string) => rows.find((row) => row.name === name)
const ratioOf = (name: string) => (rows: readonly Row[]) => rowOf(rows, name)?.ratio
/** One row's figure of TypeScript by another's. */
const quotient = (name: string, by: string) => (rows: readonly Row[]) => {
  const [a, b] = [rowOf(rows, name), rowOf(rows, by)]
  return a && b && a.typescript / b.typescript
}

const hostIsTheLimit =
  'This target takes next to no time for a read, so that the ratio is that of what the hosts need (the column of the host): nothing hides that ' +
  'compiled JavaScript checks types, bounds and what its listeners throw, where C does not. No controller is so fast; for the pace of a fast one see below.'

/** The targets that were set, each with the row that shows it. */
export const targets: readonly Target[] = [
  ...targetDepths.map((depth) => ({
    what: `${places.null}, depth ${depth}: reads a second`,
    found: ratioOf(readRow(places.null, depth, 'reads')),
    atLeast: 1,
    why: hostIsTheLimit,
  })),
  ...targetDepths.map((depth) => ({
    what: `${places.paced}, depth ${depth}: reads a second`,
    found: ratioOf(readRow(places.paced, depth, 'reads')),
    atLeast: 1,
    why: 'The time of the host comes on top of that of the target where one read is under way; with more of them it is hidden behind the target.',
  })),
  ...targetDepths.map((depth) => ({
    what: `${places.null}, depth ${depth}: p99.99 / p50`,
    found: ratioOf(readRow(places.null, depth, 'latency p99.99 / p50')),
    atMost: 2,
    why: 'One read in ten thousand meets whatever stops a core for a while: the clock, the kernel, in JavaScript also the collector of garbage.',
  })),
  ...targetDepths.map((depth) => ({
    what: `${places.lab}, depth ${depth}: reads a second`,
    found: ratioOf(readRow(places.lab, depth, 'reads')),
    atLeast: 0.8,
    why: 'An emulated processor runs the code of each side many times slower than it is, JavaScript more so.',
  })),
  {
    what: 'NVMe: build a command and ring its doorbell',
    found: ratioOf(buildRow(1)),
    atMost: 2,
    why: 'Each store into a ring goes through a view whose bounds are checked, and each call checks what it was given.',
  },
  {
    what: 'NVMe: poll a completion',
    found: ratioOf('NVMe: poll a completion'),
    atMost: 1.2,
    why: 'The listener is an object whose method V8 finds by its shape, and what it may throw has to be caught.',
  },
  ...eventfdPlaces.flatMap((where) => [
    {
      what: `eventfd to handler in the event loop, ${where}, p50`,
      found: ratioOf(`eventfd to handler, uv engine, ${where}, p50`),
      atMost: 1.5,
      why: 'From epoll the event goes through libuv and a native callback into JavaScript, which a C loop has not. A thread that needs no event loop can block.',
    },
    {
      what: `eventfd to a thread that blocks, ${where}, p50`,
      found: ratioOf(`eventfd to a thread that blocks, ${where}, p50`),
      atMost: 1.5,
      why: 'The call that blocks goes through the foreign-function interface on its way back, too.',
    },
  ]),
  ...(['direct', 'node'] as const).flatMap((place) =>
    dispatchOperators.map((operator) => ({
      what: dispatchRow(place, operator),
      found: ratioOf(dispatchRow(place, operator)),
      atMost: 1,
      why: 'The model of the NPU has to have a processor of its own: both sides look for what the other did, and where they share one, each sleeps and is woken.',
    })),
  ),
  {
    what: 'register read: accessor / typed array',
    found: quotient('register read', 'register read, bare array'),
    atMost: 1.1,
    why: 'A read stores its value: V8 deletes one whose value nobody uses once the code is hot, and the device would not see it. With that store on both sides see the next line.',
  },
  {
    what: 'register read: accessor / typed array, value kept',
    found: quotient('register read', 'register read, bare array, value kept'),
    atMost: 1.1,
    why: 'The accessor is called where V8 did not take it in, and then finds its mapping by loads.',
  },
  {
    what: 'register write: accessor / typed array',
    found: quotient('register write', 'register write, bare array'),
    atMost: 1.1,
    why: 'The accessor is called where V8 did not take it in, and then finds its mapping by loads.',
  },
]

/** A target and whether it was reached, in words. */
export function verdict(target: Target, rows: readonly Row[]): { found: string; limit: string; end: string } {
  const { atMost = Number.POSITIVE_INFINITY, atLeast = Number.NEGATIVE_INFINITY, why } = target
  const limit = target.atMost === undefined ? `at least ${atLeast}` : `at most ${atMost}`
  const found = target.found(rows)
  if (found === undefined) return { found: '', limit, end: 'not measured' }
  const shown = found.toFixed(2) // a third digit is noise
  const met = Number(shown) <= atMost && Number(shown) >= atLeast
  return { found: shown, limit, end: met ? 'met' : `missed. ${why}` }
}
