import { errorCode } from '@uaccel/uapi'
import { hex } from '../output.js'
import type { EntryOf, Snapshot } from './ask.js'

/** What is read out of the answers of a node. */

type Identity = NonNullable<Snapshot['answers']['identity']>

/** A number of the PCI configuration space, as lspci writes it. */
export function pciNumber(
  key: 'vendor' | 'device' | 'subsystemVendor' | 'subsystem' | 'classCode' | 'revision',
  digits: number,
) {
  return (identity: Identity) => (identity.known.pci ? hex(identity[key], digits) : undefined)
}

/** The code of an error, or its number where this version does not know it. */
export const codeOf = (error: number) => errorCode(error) ?? `${error}`

/** Digits, not powers: 42500 thousandths are 42.5 exactly. */
export const scaled = ({ exponent }: EntryOf<'sensors'>, value: bigint) => Number(`${value}e${exponent}`)

/** The value of an attribute of type integer; none where it is something else. */
export function integer(text: string | undefined): number | undefined {
  const value = text === undefined || text === '' ? Number.NaN : Number(text)
  return Number.isInteger(value) ? value : undefined
}

/** A client, and what it uses where the node tells that. */
export interface Client extends EntryOf<'contexts'> {
  readonly usage: Usage | undefined
}

interface Usage {
  /** In nanoseconds, by engine; of one with several alike in sum. */
  readonly busyNs: ReadonlyMap<string, bigint>
  /** How many alike there are of an engine; one, unless told. */
  readonly capacity: ReadonlyMap<string, number>
  /** Absent where its driver tells of no memory. */
  readonly memoryBytes: bigint | undefined
}

/** The opens of a node, each with what it uses. */
export function clientsOf({ answers: { contexts, usage } }: Snapshot): Client[] | undefined {
  const used = new Map(usage?.entries.map(({ open, text }) => [open, parseUsage(text)]))
  return contexts?.entries.map((context) => ({ ...context, usage: used.get(context.id) }))
}

/** Units that memory may have in fdinfo (Documentation/gpu/drm-usage-stats.rst, "Memory"). */
const fdinfoUnits: Readonly<Record<string, bigint>> = { '': 1n, KiB: 1024n, MiB: 1_048_576n }

function parseUsage(text: string): Usage {
  const busyNs = new Map<string, bigint>()
  const capacity = new Map<string, number>()
  let memoryBytes: bigint | undefined
  for (const line of text.split('\n')) {
    const engine = /^drm-engine-([^:]+):\s*(\d+) ns$/.exec(line)
    if (engine) busyNs.set(engine[1]!, BigInt(engine[2]!))
    const alike = /^drm-engine-capacity-([^:]+):\s*(\d+)$/.exec(line)
    if (alike) capacity.set(alike[1]!, Math.max(1, Number(alike[2])))
    const memory = /^drm-total-[^:]+:\s*(\d+) ?(KiB|MiB|)$/.exec(line)
    if (memory) memoryBytes = (memoryBytes ?? 0n) + BigInt(memory[1]!) * fdinfoUnits[memory[2]!]!
  }
  return { busyNs, capacity, memoryBytes }
}

interface Vector {
  readonly vector: string
  readonly type: string | undefined
  readonly counts: Readonly<Record<string, number>>
}

/** Vectors by number, from `irqs/N/...`. */
export function interruptsOf({ attributes }: Snapshot): Vector[] | undefined {
  const vectors = new Map<string, Record<string, number>>()
  for (const [path, { value }] of attributes) {
    const match = /^irqs\/(\d+)\/(fired|handled|coalesced)$/.exec(path)
    if (!match) continue
    const [, vector, what] = match
    const counts = vectors.get(vector!) ?? {}
    const count = integer(value)
    if (count !== undefined) counts[what!] = count
    vectors.set(vector!, counts)
  }
  const type = attributes.get('irqs/type')?.value
  return [...vectors]
    .sort(([a], [b]) => Number(a) - Number(b))
    .map(([vector, counts]) => ({ vector, type, counts }))
}

/** How often the device fired interrupts, on all vectors. */
export function interruptsFired(snapshot: Snapshot): number | undefined {
  const vectors = interruptsOf(snapshot) ?? []
  return vectors.length === 0 ? undefined : vectors.reduce((sum, { counts }) => sum + (counts.fired ?? 0), 0)
}

const largest = (values: readonly number[]) => (values.length === 0 ? undefined : Math.max(...values))

/** Utilisation of the busiest engine, in percent. */
export function busiest({ answers: { engines } }: Snapshot): number | undefined {
  const known = engines?.entries.filter(({ known }) => known.utilisation) ?? []
  return largest(known.map(({ utilisationPermille }) => utilisationPermille / 10))
}

/** The highest temperature that is measured, in degrees Celsius. */
export function hottest({ answers: { sensors } }: Snapshot): number | undefined {
  const known = sensors?.entries.filter(({ kind, unit }) => kind === 'temperature' && unit === 'C') ?? []
  return largest(known.map((sensor) => scaled(sensor, sensor.value)))
}

/** The rate of the fastest clock, in hertz. */
export function fastest({ answers: { clocks } }: Snapshot): number | undefined {
  return largest(clocks?.entries.map(({ hz }) => Number(hz)) ?? [])
}

/** Memory besides BARs, over the regions whose use is known; of none of them only the size is. */
export function deviceMemory({
  answers: { memoryRegions },
}: Snapshot): { used?: bigint; total: bigint } | undefined {
  const regions = memoryRegions?.entries.filter(({ kind }) => kind === 'device') ?? []
  if (regions.length === 0) return undefined
  const total = regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n)
  if (!regions.some(({ known }) => known.used)) return { total }
  return { total, used: regions.reduce((sum, { usedBytes }) => sum + usedBytes, 0n) }
}

/** `4 of 16`, where the driver tells of queues. */
export function queuesOf({ attributes }: Snapshot): string | undefined {
  const used = attributes.get('queues/inUse')?.value
  const total = attributes.get('queues/total')?.value
  return used === undefined ? undefined : total === undefined ? used : `${used} of ${total}`
}
