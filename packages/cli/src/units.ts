/** A value of a device, as programs get it. */
export type Value = string | number | bigint | boolean

/** Units that are written for people in a larger one, by the factor from one to the next. */
const scales: Readonly<Record<string, { readonly factor: number; readonly units: readonly string[] }>> = {
  bytes: { factor: 1024, units: ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] },
  Hz: { factor: 1000, units: ['Hz', 'kHz', 'MHz', 'GHz', 'THz'] },
  W: { factor: 1000, units: ['W', 'kW', 'MW'] },
  J: { factor: 1000, units: ['J', 'kJ', 'MJ', 'GJ'] },
}

/** What the name of a value in JSON ends with, by its unit. */
const suffixes: Readonly<Record<string, string>> = {
  bytes: 'Bytes',
  '%': 'Percent',
  Hz: 'Hz',
  W: 'Watts',
  J: 'Joules',
  ns: 'Ns',
  C: 'Celsius',
}

/** The name of a value in JSON: `usedBytes`. */
export const jsonName = (key: string, unit: string | undefined): string => key + (suffixes[unit ?? ''] ?? '')

/** A value for a program. Numbers are exact up to 2^53; a moment is ISO 8601, in UTC. */
export function machine(value: Value, unit = ''): string | number | boolean {
  if (unit === 'time') return moment(BigInt(value)) ?? ''
  return typeof value === 'bigint' ? Number(value) : value
}

/** A value for a person, with its unit: 1048576 bytes are `1 MiB`. */
export function human(value: Value, unit = ''): string {
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'string') return value
  if (unit === 'time') return localTime(BigInt(value))
  if (unit === 'ns') return duration(Number(value))
  const scale = Object.hasOwn(scales, unit) ? scales[unit] : undefined
  if (!scale) return unit === '' ? `${value}` : `${value} ${unit}`
  let scaled = Number(value)
  let step = 0
  while (Math.abs(scaled) >= scale.factor && step < scale.units.length - 1) {
    scaled /= scale.factor
    step++
  }
  return `${short(scaled)} ${scale.units[step]}`
}

/** At most three digits, where it has a fraction: 1.5, 12.3, 123. */
export function short(value: number): string {
  const magnitude = Math.abs(value)
  return `${Number(value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2))}`
}

const NS_PER = { us: 1e3, ms: 1e6, s: 1e9 } as const

/** `12 us`, `3.4 ms`, `5.6 s`, `01:02:03`, `4 d 01:02:03`. */
export function duration(ns: number): string {
  if (ns < NS_PER.us) return `${short(ns)} ns`
  if (ns < NS_PER.ms) return `${short(ns / NS_PER.us)} us`
  if (ns < NS_PER.s) return `${short(ns / NS_PER.ms)} ms`
  const s = ns / NS_PER.s
  if (s < 60) return `${short(s)} s`
  return clock(ns)
}

/** `00:01:02`, and days before it where there are any. */
export function clock(ns: number): string {
  const s = Math.max(0, Math.floor(ns / NS_PER.s))
  const days = Math.floor(s / 86_400)
  const time = `${two(Math.floor(s / 3600) % 24)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`
  return days > 0 ? `${days} d ${time}` : time
}

/** A moment of CLOCK_REALTIME in ns as ISO 8601 has it, in UTC, to the millisecond. Those that no calendar has are absent. */
export function moment(ns: bigint): string | undefined {
  const date = new Date(Number(ns / 1_000_000n))
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString()
}

const two = (value: number) => `${value}`.padStart(2, '0')

/** The same for a person: local time, to the second. */
export function localTime(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n))
  if (Number.isNaN(date.getTime())) return '?'
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** The same without the date, where that is today's: for a table. */
export function recentTime(ns: bigint): string {
  const text = localTime(ns)
  const [today] = localTime(BigInt(Date.now()) * 1_000_000n).split(' ')
  return text.startsWith(`${today} `) ? text.slice(today!.length + 1) : text
}
