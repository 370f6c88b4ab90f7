import { errorCode } from '@uaccel/uapi'
import { hex } from '../output.js'
import type { EntryOf, Snapshot } from './ask.js'
import { commandLine, userName } from './people.js'
import { many, one, type Section } from './section.js'

/** Everything that is told of a node, in the order in which people read it. Append-only in names and keys: programs read them. */
export const sections: readonly Section[] = [
  one({
    name: 'identity',
    title: 'Device',
    prefix: '',
    kinds: ['identity'],
    of: ({ answers }) => answers.identity,
    items: {
      node: { meaning: 'the node', read: ({ node }) => node },
      name: { meaning: 'what its driver calls the device', read: ({ name }) => name },
      driver: { meaning: 'the driver', read: ({ driver }) => driver },
      driverVersion: { meaning: 'its version', read: ({ driverVersion }) => driverVersion },
      firmware: { meaning: 'version of the firmware', read: ({ firmware }) => firmware },
      uapi: { meaning: 'uAPI that the driver speaks', label: 'uAPI', read: ({ uapi }) => uapi },
      uapiVersion: { meaning: 'its version', label: 'uAPI version', read: ({ uapiVersion }) => uapiVersion },
      transport: { meaning: 'how the driver reaches the device', read: ({ transport }) => transport },
      address: { meaning: 'where it is: a PCI address, a socket', read: ({ address }) => address },
      bus: { meaning: 'pci or platform', read: ({ bus }) => bus },
      emulated: {
        meaning: 'whether the device is software: yes or no',
        read: ({ emulated }) => (emulated === 'unknown' ? undefined : emulated),
      },
      iommu: {
        meaning: 'interface to the IOMMU: type1, iommufd, none',
        label: 'IOMMU',
        read: ({ iommu }) => iommu,
      },
      vendorId: { meaning: 'PCI vendor', label: 'vendor id', read: pciNumber('vendor', 4) },
      deviceId: { meaning: 'PCI device', label: 'device id', read: pciNumber('device', 4) },
      subsystemVendorId: {
        meaning: 'PCI subsystem vendor',
        label: 'subsystem vendor',
        read: pciNumber('subsystemVendor', 4),
      },
      subsystemId: { meaning: 'PCI subsystem', label: 'subsystem', read: pciNumber('subsystem', 4) },
      classCode: { meaning: 'PCI class code', label: 'class', read: pciNumber('classCode', 6) },
      revision: { meaning: 'PCI revision', read: pciNumber('revision', 2) },
      tainted: {
        meaning: 'why the device can reach memory that is not its own',
        read: ({ tainted }) => tainted,
      },
    },
  }),
  one({
    name: 'status',
    title: 'Status',
    prefix: '',
    kinds: ['status'],
    of: ({ answers }) => answers.status,
    items: {
      state: {
        meaning: 'operational, inReset, needsReset, malfunction, beingCreated, beingCleaned, removed',
        read: ({ state }) => state,
      },
      opens: { meaning: 'opens that there are, this one included', read: ({ opens }) => opens },
      reason: { meaning: 'why it does not work', read: ({ reason }) => reason },
    },
  }),
  many({
    name: 'engines',
    title: 'Engines',
    prefix: 'engine',
    kinds: ['engines'],
    of: ({ answers }) => answers.engines?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { meaning: '`command` is the turn that commands take', read: ({ name }) => name },
      utilisation: {
        unit: '%',
        meaning: 'how busy it was lately',
        read: ({ known, utilisationPermille }) => (known.utilisation ? utilisationPermille / 10 : undefined),
      },
      busy: {
        unit: 'ns',
        meaning: 'how long it worked in all',
        read: ({ known, busyNs }) => (known.busy ? busyNs : undefined),
      },
      instances: { meaning: 'how many there are of it', read: ({ instances }) => instances },
      heartbeat: {
        meaning: 'changes while it works',
        read: ({ known, heartbeat }) => (known.heartbeat ? heartbeat : undefined),
      },
    },
  }),
  many({
    name: 'memory',
    title: 'Memory',
    prefix: 'memory',
    kinds: ['memoryRegions'],
    of: ({ answers }) => answers.memoryRegions?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { label: 'region', meaning: 'the region', read: ({ name }) => name },
      size: { unit: 'bytes', meaning: 'its size', read: ({ sizeBytes }) => sizeBytes },
      used: {
        unit: 'bytes',
        meaning: 'what of it is in use',
        read: ({ known, usedBytes }) => (known.used ? usedBytes : undefined),
      },
      kind: { meaning: 'bar, or device for memory behind it', read: ({ kind }) => kind },
      mappable: { meaning: 'whether a part of it can be mapped', read: ({ mappable }) => mappable },
    },
  }),
  many({
    name: 'sensors',
    title: 'Sensors',
    prefix: 'sensor',
    kinds: ['sensors'],
    of: ({ answers }) => answers.sensors?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { meaning: 'the sensor', read: ({ name }) => name },
      value: {
        main: true,
        unit: ({ unit }) => unit,
        meaning: 'what it measures',
        read: (s) => scaled(s, s.value),
      },
      min: {
        unit: ({ unit }) => unit,
        meaning: 'the least that it may be',
        read: (s) => (s.known.min ? scaled(s, s.min) : undefined),
      },
      max: {
        unit: ({ unit }) => unit,
        meaning: 'the most that it may be',
        read: (s) => (s.known.max ? scaled(s, s.max) : undefined),
      },
      critical: {
        unit: ({ unit }) => unit,
        meaning: 'from here on the device is in danger',
        read: (s) => (s.known.critical ? scaled(s, s.critical) : undefined),
      },
      kind: {
        meaning: 'temperature, voltage, current, power, energy, fan, humidity, other',
        read: ({ kind }) => kind,
      },
    },
  }),
  many({
    name: 'clocks',
    title: 'Clocks',
    prefix: 'clock',
    kinds: ['clocks'],
    of: ({ answers }) => answers.clocks?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { meaning: 'the clock', read: ({ name }) => name },
      rate: { main: true, unit: 'Hz', meaning: 'its rate', read: ({ hz }) => hz },
      max: {
        unit: 'Hz',
        meaning: 'the highest that it can have',
        read: ({ known, maxHz }) => (known.max ? maxHz : undefined),
      },
    },
  }),
  one({
    name: 'power',
    title: 'Power',
    prefix: 'power',
    kinds: ['power'],
    of: ({ answers }) => answers.power,
    items: {
      drawn: {
        unit: 'W',
        meaning: 'what the device draws',
        read: ({ known, drawnMicrowatts }) => (known.drawn ? Number(drawnMicrowatts) / 1e6 : undefined),
      },
      cap: {
        unit: 'W',
        meaning: 'what it may draw',
        read: ({ known, capMicrowatts }) => (known.cap ? Number(capMicrowatts) / 1e6 : undefined),
      },
      energy: {
        unit: 'J',
        meaning: 'what it took since it was powered on',
        read: ({ known, energyMicrojoules }) => (known.energy ? Number(energyMicrojoules) / 1e6 : undefined),
      },
      state: { meaning: 'power state', read: ({ state }) => state },
    },
  }),
  many({
    name: 'limits',
    title: 'Limits',
    prefix: 'limit',
    kinds: ['limits'],
    of: ({ answers }) => answers.limits?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { label: 'limit', meaning: 'the limit', read: ({ name }) => name },
      value: {
        main: true,
        unit: ({ unit }) => unit,
        meaning: 'the most, or least',
        read: ({ value }) => value,
      },
    },
  }),
  many({
    name: 'clients',
    title: 'Clients',
    kinds: ['contexts', 'usage'],
    of: clientsOf,
    nameOf: ({ id }) => `${id}`,
    items: {
      id: { label: 'open', meaning: 'number of the open', read: ({ id }) => id },
      pid: { label: 'PID', meaning: 'process', read: ({ known, pid }) => (known.peer ? pid : undefined) },
      uid: {
        terse: true,
        label: 'UID',
        meaning: 'its user, by number',
        read: ({ known, uid }) => (known.peer ? uid : undefined),
      },
      user: {
        meaning: 'its user, by name',
        read: ({ known, uid }) => (known.peer ? userName(uid) : undefined),
      },
      opened: { unit: 'time', meaning: 'since when', read: ({ openedNs }) => openedNs },
      busy: { unit: 'ns', meaning: 'how long commands worked for it', read: ({ busyNs }) => busyNs },
      memory: {
        unit: 'bytes',
        meaning: 'device memory and buffers that it holds',
        read: ({ usage }) => usage?.memoryBytes,
      },
      submissions: { meaning: 'commands and jobs that it submitted', read: ({ submissions }) => submissions },
      completions: { terse: true, meaning: 'those that succeeded', read: ({ completions }) => completions },
      failures: { terse: true, meaning: 'those that failed', read: ({ failures }) => failures },
      mayReset: {
        terse: true,
        label: 'may reset',
        meaning: 'whether it may reset the device',
        read: ({ rights }) => rights.reset,
      },
      self: { terse: true, meaning: 'whether it is the one that asks', read: ({ self }) => self },
      command: {
        meaning: 'command line of the process, where it is of this machine',
        read: ({ known, pid }) => (known.peer ? commandLine(pid) : undefined),
      },
    },
  }),
  one({
    name: 'counters',
    title: 'Counters',
    prefix: 'counter',
    kinds: ['counters'],
    of: ({ answers }) => answers.counters,
    items: {
      submissions: {
        meaning: 'commands and jobs that were submitted',
        read: ({ submissions }) => submissions,
      },
      completions: { meaning: 'those that succeeded', read: ({ completions }) => completions },
      failures: { meaning: 'those that failed', read: ({ failures }) => failures },
      drops: { meaning: 'failures that the driver never saw', read: ({ drops }) => drops },
      refusals: { meaning: 'malformed commands: never submitted', read: ({ refusals }) => refusals },
      opens: { meaning: 'opens that there were', read: ({ opens }) => opens },
      resets: { meaning: 'resets that there were', read: ({ resets }) => resets },
      events: { meaning: 'events that there were', read: ({ events }) => events },
      eventsLost: { meaning: 'events that were overwritten', read: ({ eventsLost }) => eventsLost },
    },
  }),
  many({
    name: 'errors',
    title: 'Failures by error',
    prefix: 'error',
    kinds: ['counters'],
    of: ({ answers }) => answers.counters?.errors,
    nameOf: ({ error }) => codeOf(error),
    items: {
      code: { meaning: 'code of the error', read: ({ error }) => codeOf(error) },
      count: { main: true, meaning: 'commands and jobs that failed with it', read: ({ count }) => count },
    },
  }),
  many({
    name: 'interrupts',
    title: 'Interrupts',
    prefix: 'interrupt',
    attributes: ['irqs'],
    of: interruptsOf,
    nameOf: ({ vector }) => vector,
    items: {
      vector: { meaning: 'the vector', read: ({ vector }) => Number(vector) },
      type: { meaning: 'msix, msi, intx', read: ({ type }) => type },
      fired: { main: true, meaning: 'interrupts that the device fired', read: ({ counts }) => counts.fired },
      handled: { meaning: 'calls of the handler', read: ({ counts }) => counts.handled },
      coalesced: {
        meaning: 'those that shared a call with an earlier one',
        read: ({ counts }) => counts.coalesced,
      },
    },
  }),
  one({
    name: 'dma',
    title: 'DMA',
    prefix: 'dma',
    attributes: ['dma'],
    of: ({ attributes }) => (attributes.has('dma/mappings') ? attributes : undefined),
    items: {
      mappings: { meaning: 'DMA mappings', read: (all) => integer(all.get('dma/mappings')?.value) },
      mapped: {
        unit: 'bytes',
        meaning: 'memory that the device can reach',
        read: (all) => integer(all.get('dma/mappedBytes')?.value),
      },
    },
  }),
  many({
    name: 'resets',
    title: 'Latest resets',
    kinds: ['resets'],
    of: ({ answers }) => answers.resets?.entries,
    nameOf: ({ startedNs }) => `${startedNs}`,
    items: {
      started: { unit: 'time', meaning: 'when it began', read: ({ startedNs }) => startedNs },
      duration: {
        unit: 'ns',
        label: 'took',
        meaning: 'how long it took',
        read: ({ durationNs }) => durationNs,
      },
      kind: { meaning: 'default, function, hot', read: ({ kind }) => kind },
      error: {
        meaning: 'what it failed with',
        read: ({ error }) => (error === 0 ? undefined : codeOf(error)),
      },
      reason: { meaning: 'what for', read: ({ reason }) => reason },
    },
  }),
  many({
    name: 'opens',
    title: 'Latest opens',
    kinds: ['opens'],
    of: ({ answers }) => answers.opens?.entries,
    nameOf: ({ id }) => `${id}`,
    items: {
      id: { label: 'open', meaning: 'number of the open', read: ({ id }) => id },
      pid: { label: 'PID', meaning: 'process', read: ({ known, pid }) => (known.peer ? pid : undefined) },
      uid: {
        label: 'UID',
        meaning: 'its user, by number',
        read: ({ known, uid }) => (known.peer ? uid : undefined),
      },
      opened: { unit: 'time', meaning: 'since when', read: ({ openedNs }) => openedNs },
      closed: {
        unit: 'time',
        meaning: 'until when',
        read: ({ known, closedNs }) => (known.closed ? closedNs : undefined),
      },
    },
  }),
  many({
    name: 'time',
    title: 'Time',
    prefix: 'time',
    kinds: ['timeSync'],
    of: ({ answers }) => answers.timeSync?.entries,
    nameOf: ({ name }) => name,
    items: {
      name: { label: 'clock', meaning: 'a clock of the device', read: ({ name }) => name },
      ticks: { main: true, meaning: 'what it shows', read: ({ deviceTicks }) => deviceTicks },
      rate: { unit: 'Hz', meaning: 'ticks in a second', read: ({ ticksPerSecond }) => ticksPerSecond },
      monotonic: {
        unit: 'ns',
        meaning: 'CLOCK_MONOTONIC at that moment',
        read: ({ monotonicNs }) => monotonicNs,
      },
      realtime: {
        unit: 'time',
        meaning: 'CLOCK_REALTIME at that moment',
        read: ({ realtimeNs }) => realtimeNs,
      },
      uncertainty: {
        unit: 'ns',
        meaning: 'how far the moment may lie apart',
        read: ({ uncertaintyNs }) => uncertaintyNs,
      },
    },
  }),
  one({
    name: 'summary',
    title: 'Summary',
    prefix: '',
    of: (snapshot) => snapshot,
    items: {
      timestamp: { unit: 'time', meaning: 'when the node was asked', read: ({ realtimeNs }) => realtimeNs },
      utilisation: { unit: '%', meaning: 'of its busiest engine, lately', kinds: ['engines'], read: busiest },
      temperature: { unit: 'C', meaning: 'of its hottest sensor', kinds: ['sensors'], read: hottest },
      clock: { unit: 'Hz', meaning: 'of its fastest clock', kinds: ['clocks'], read: fastest },
      'memory.used': {
        unit: 'bytes',
        meaning: 'device memory in use',
        kinds: ['memoryRegions'],
        read: (snapshot) => deviceMemory(snapshot)?.used,
      },
      'memory.total': {
        unit: 'bytes',
        meaning: 'device memory',
        kinds: ['memoryRegions'],
        read: (snapshot) => deviceMemory(snapshot)?.total,
      },
      'queues.used': {
        meaning: 'queues in use, where its driver tells',
        attributes: ['queues/inUse'],
        read: ({ attributes }) => integer(attributes.get('queues/inUse')?.value),
      },
      'queues.total': {
        meaning: 'queues, where its driver tells',
        attributes: ['queues/total'],
        read: ({ attributes }) => integer(attributes.get('queues/total')?.value),
      },
      interrupts: {
        meaning: 'interrupts that it fired, on all vectors',
        attributes: ['irqs'],
        read: interruptsFired,
      },
    },
  }),
]

type Identity = NonNullable<Snapshot['answers']['identity']>

function pciNumber(
  key: 'vendor' | 'device' | 'subsystemVendor' | 'subsystem' | 'classCode' | 'revision',
  digits: number,
) {
  return (identity: Identity) => (identity.known.pci ? hex(identity[key], digits) : undefined)
}

const codeOf = (error: number) => errorCode(error) ?? `${error}`

/** Digits, not powers: 42500 thousandths are 42.5 exactly. */
const scaled = ({ exponent }: EntryOf<'sensors'>, value: bigint) => Number(`${value}e${exponent}`)

/** An attribute of type integer. */
const integer = (text: string | undefined) => (text === undefined || text === '' ? undefined : Number(text))

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
function interruptsOf({ attributes }: Snapshot): Vector[] | undefined {
  const vectors = new Map<string, Record<string, number>>()
  for (const [path, { value }] of attributes) {
    const match = /^irqs\/(\d+)\/(fired|handled|coalesced)$/.exec(path)
    if (!match) continue
    const [, vector, what] = match
    const counts = vectors.get(vector!) ?? {}
    counts[what!] = Number(value)
    vectors.set(vector!, counts)
  }
  const type = attributes.get('irqs/type')?.value
  return [...vectors]
    .sort(([a], [b]) => Number(a) - Number(b))
    .map(([vector, counts]) => ({ vector, type, counts }))
}

export function interruptsFired(snapshot: Snapshot): number | undefined {
  const vectors = interruptsOf(snapshot) ?? []
  return vectors.length === 0 ? undefined : vectors.reduce((sum, { counts }) => sum + (counts.fired ?? 0), 0)
}

const largest = (values: readonly number[]) => (values.length === 0 ? undefined : Math.max(...values))

function busiest({ answers: { engines } }: Snapshot): number | undefined {
  const known = engines?.entries.filter(({ known }) => known.utilisation) ?? []
  return largest(known.map(({ utilisationPermille }) => utilisationPermille / 10))
}

export function hottest({ answers: { sensors } }: Snapshot): number | undefined {
  const known = sensors?.entries.filter(({ kind, unit }) => kind === 'temperature' && unit === 'C') ?? []
  return largest(known.map((sensor) => scaled(sensor, sensor.value)))
}

function fastest({ answers: { clocks } }: Snapshot): number | undefined {
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
