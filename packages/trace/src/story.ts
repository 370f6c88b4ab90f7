import type { RegisterEntry } from '@uaccel/core'
import { errorCode } from '@uaccel/uapi'
import { type EventKindName, kindName, type TraceEvent } from './event.js'
import type { TraceNames } from './names.js'
import { JOB_QUEUE } from './ring.js'

/** What kinds of events are about: what a reader may choose from. */
export const topics = ['mmio', 'irq', 'dma', 'commands', 'queue'] as const
export type Topic = (typeof topics)[number]

/** Where an event belongs: a lane of a picture. */
export type Lane = 'host' | 'device' | `queue ${number}` | 'jobs'

/** How long something took. What is absent is not known: its beginning was before the trace, or is not told. */
export interface Latency {
  /** From its submission to its end. */
  readonly totalNs?: number
  /** From its submission until it was given to the device. */
  readonly queuedNs?: number
  /** From there to its end. */
  readonly deviceNs?: number
}

/** An event in words. */
export interface Told {
  readonly timeNs: bigint
  readonly kind: EventKindName | number
  readonly topic: Topic | 'other'
  readonly lane: Lane
  readonly text: string
  /** What the text says, for programs: numbers that may have more than 53 bits are bigints. */
  readonly details: Readonly<Record<string, unknown>>
  readonly latency?: Latency
}

const regions = ['BAR 0', 'BAR 1', 'BAR 2', 'BAR 3', 'BAR 4', 'BAR 5', 'ROM', 'config', 'VGA']
const accesses = ['none', 'device reads', 'device writes', 'device reads and writes']
/** Of things whose end never comes, so many are remembered. */
const MAX_OPEN = 65_536

interface Begun {
  readonly submitNs?: bigint
  readonly startNs?: bigint
}

/** Turns records into words, and finds what belongs together: what ends with what began. Records are given in their order. */
export class TraceStory {
  readonly #names: TraceNames
  readonly #jobs = new Map<string, Begun>()
  readonly #commands = new Map<number, bigint>()

  constructor(names: TraceNames) {
    this.#names = names
  }

  tell(event: TraceEvent): Told {
    const { timeNs, kind } = event
    const name = kindName(kind)
    const base = { timeNs, kind: name ?? kind }
    switch (name) {
      case 'mmioRead':
      case 'mmioWrite':
        return { ...base, topic: 'mmio', lane: 'host', ...this.#access(event, name === 'mmioWrite') }
      case 'irq':
        return {
          ...base,
          topic: 'irq',
          lane: 'device',
          text: `vector ${event.index}${event.b > 1n ? `, ${event.b} times` : ''}`,
          details: { vector: event.index, count: Number(event.b) },
        }
      case 'dmaMap':
      case 'dmaUnmap': {
        const mode = name === 'dmaMap' ? (accesses[event.width] ?? `access ${event.width}`) : undefined
        return {
          ...base,
          topic: 'dma',
          lane: 'host',
          text: `${name === 'dmaMap' ? 'map' : 'unmap'} ${event.b} bytes at IOVA ${hex(event.a)}${mode === undefined ? '' : `, ${mode}`}`,
          details: { iova: event.a, sizeBytes: event.b, ...(mode === undefined ? {} : { access: mode }) },
        }
      }
      case 'commandBegin':
      case 'commandEnd':
        return { ...base, topic: 'commands', lane: 'host', ...this.#command(event, name === 'commandEnd') }
      case 'submit':
      case 'start':
      case 'complete':
        return { ...base, topic: 'queue', ...this.#job(event, name) }
      case 'reset': {
        const error = errorOf(event.b)
        const text = error === undefined ? 'reset' : `reset failed: ${error}`
        return {
          ...base,
          topic: 'other',
          lane: 'device',
          text,
          details: { ...(error === undefined ? {} : { error }) },
        }
      }
      case undefined:
        return {
          ...base,
          topic: 'other',
          lane: 'host',
          text: `record of kind ${kind}: ${event.width} ${event.index} ${event.id} ${hex(event.a)} ${hex(event.b)}`,
          details: { width: event.width, index: event.index, id: event.id, a: event.a, b: event.b },
        }
    }
  }

  #access({ width, index, a, b }: TraceEvent, write: boolean) {
    const region = regions[index] ?? `region ${index}`
    const arrow = write ? '<-' : '->'
    if (width === 0) {
      return {
        text: `${region} ${hex(a)} ${arrow} ${b} bytes`,
        details: { region: index, offset: a, sizeBytes: b },
      }
    }
    const entry = this.#names.register(index, a, width, write)
    const details = { region: index, offset: a, width, value: b }
    if (entry === undefined) return { text: `${region} ${hex(a)} ${arrow} ${hex(b, 2 * width)}`, details }
    const fields = decodeFields(entry, b)
    const shown = Object.entries(fields).map(([field, value]) => ` ${field}=${value}`)
    return {
      text: `${entry.name} ${arrow} ${hex(b, 2 * width)}${shown.join('')}`,
      details: { ...details, register: entry.name, fields },
    }
  }

  #command({ timeNs, index, id, a, b }: TraceEvent, end: boolean) {
    const command = this.#names.command(index) ?? `command 0x${index.toString(16)}`
    const details = { command, call: id, open: Number(a) }
    if (!end) {
      remember(this.#commands, id, timeNs)
      return {
        text: `${command} of open ${a} begins${b > 0n ? `, waited ${duration(Number(b))}` : ''}`,
        details: { ...details, waitedNs: Number(b) },
      }
    }
    const began = this.#commands.get(id)
    this.#commands.delete(id)
    const latency = began === undefined ? {} : { totalNs: Number(timeNs - began) }
    const error = errorOf(b)
    return {
      text: `${command} of open ${a} ${error === undefined ? 'ends' : `fails: ${error}`}${took(latency)}`,
      details: { ...details, ...(error === undefined ? {} : { error }) },
      latency,
    }
  }

  #job({ timeNs, index, id, a, b }: TraceEvent, what: 'submit' | 'start' | 'complete') {
    const lane: Lane = index === JOB_QUEUE ? 'jobs' : `queue ${index}`
    const key = `${index}:${id}`
    const whose = a === 0n ? '' : ` of open ${a}`
    const details = { queue: lane, job: id, ...(a === 0n ? {} : { open: Number(a) }) }
    const begun = this.#jobs.get(key) ?? {}
    if (what === 'submit') {
      remember(this.#jobs, key, { submitNs: timeNs })
      return { lane, text: `job ${id}${whose} submitted`, details }
    }
    if (what === 'start') {
      remember(this.#jobs, key, { ...begun, startNs: timeNs })
      const queuedNs = begun.submitNs === undefined ? undefined : Number(timeNs - begun.submitNs)
      const latency = queuedNs === undefined ? {} : { queuedNs }
      return { lane, text: `job ${id}${whose} given to the device${took(latency)}`, details, latency }
    }
    this.#jobs.delete(key)
    const { submitNs, startNs } = begun
    const latency: Latency = {
      ...(submitNs === undefined ? {} : { totalNs: Number(timeNs - submitNs) }),
      ...(submitNs === undefined || startNs === undefined ? {} : { queuedNs: Number(startNs - submitNs) }),
      ...(startNs === undefined ? {} : { deviceNs: Number(timeNs - startNs) }),
    }
    const error = errorOf(b)
    return {
      lane,
      text: `job ${id}${whose} ${error === undefined ? 'completed' : `failed: ${error}`}${took(latency)}`,
      details: { ...details, ...(error === undefined ? {} : { error }) },
      latency,
    }
  }
}

/** `0x1f`, of so many digits at least. */
function hex(value: bigint, digits = 1): string {
  return `0x${value.toString(16).padStart(digits, '0')}`
}

function errorOf(number: bigint): string | undefined {
  if (number === 0n) return undefined
  return errorCode(Number(number)) ?? `error ${number}`
}

function decodeFields({ codec, width }: RegisterEntry, value: bigint): Readonly<Record<string, unknown>> {
  return { ...(width === 64 ? codec.decode64(value) : codec.decode(Number(BigInt.asUintN(width, value)))) }
}

function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_OPEN) map.delete(map.keys().next().value!)
}

/** 1234567 -> `1.235 ms`. */
export function duration(ns: number): string {
  const units = ['ns', 'us', 'ms', 's'] as const
  let value = ns
  let unit = 0
  while (Math.abs(value) >= 1000 && unit < 3) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : value.toPrecision(4)} ${units[unit]}`
}

function took({ totalNs, queuedNs, deviceNs }: Latency): string {
  const parts = [
    ...(totalNs === undefined ? [] : [duration(totalNs)]),
    ...(queuedNs === undefined ? [] : [`queued ${duration(queuedNs)}`]),
    ...(deviceNs === undefined ? [] : [`device ${duration(deviceNs)}`]),
  ]
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}
