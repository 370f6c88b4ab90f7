import {
  ATTRIBUTE_VALUE_BYTES,
  accelError,
  errorTable,
  type QueryAnswer,
  type QueryKind,
  queryUapi,
} from '@uaccel/uapi'
import type { PeerCredentials } from './driver.js'
import { EVENT_HISTORY } from './events.js'
import { fdinfo } from './fdinfo.js'
import { within } from './limit.js'
import type { AccelNode } from './node.js'
import type { Open } from './open.js'
import type { Engine, Quantity, Telemetry } from './telemetry.js'
import { fit } from './text.js'

/** Who asks what, and for which part of it. */
interface Ask {
  readonly node: AccelNode
  readonly open: Open
  /** Of a list: where it is asked for. */
  readonly from: number
  /** What the driver says of itself, once no reset is under way. */
  driver<K extends Asked>(what: K, ...args: Parameters<Required<Telemetry>[K]>): Promise<Said<K> | undefined>
}

type Asked = Exclude<keyof Telemetry, 'name' | 'firmware'>
type Said<K extends Asked> = Awaited<ReturnType<Required<Telemetry>[K]>>

type MaybePromise<T> = T | Promise<T>
type IsList<A> = A extends { readonly entries: readonly (infer E)[]; readonly total: number } ? E : never
/** A list kind answers all of its entries: {@link answerQuery} takes those that fit. */
type Answer<K extends QueryKind> =
  | (IsList<QueryAnswer<K>> extends never ? QueryAnswer<K> : Listed<IsList<QueryAnswer<K>>>)
  | undefined

interface Listed<E> {
  readonly entries: readonly E[]
  /** Where there were more than are remembered. */
  readonly total?: number
  /** The entries are those from the asked one on. */
  readonly cut?: boolean
}

/** What clients may hold of it; what has no limit is left out, and jobs where the driver takes none. */
function quotasOf({ quotas, jobDepth }: AccelNode) {
  return Object.entries(quotas)
    .filter(([name, value]) => Number.isFinite(value) && (name !== 'openJobs' || jobDepth !== undefined))
    .map(([name, value]) => ({ name, unit: name.endsWith('Bytes') ? 'bytes' : '', value: whole(value) }))
}

/** A driver's quantity as it travels. */
const whole = (quantity: Quantity | undefined): bigint =>
  typeof quantity === 'number' ? BigInt(Math.round(quantity)) : (quantity ?? 0n)

/** Which of some optional values are there. */
function known<N extends string>(values: Readonly<Record<N, unknown>>): Record<N, boolean> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, value !== undefined]),
  ) as Record<N, boolean>
}

const peerOf = (peer: PeerCredentials | undefined) => peer ?? { pid: 0, uid: 0, gid: 0 }

const noPciIds = {
  vendor: 0,
  device: 0,
  subsystemVendor: 0,
  subsystem: 0,
  revision: 0,
  classCode: 0,
}

/** Which device a node is, as far as that is known without asking it. */
export function identityOf({ driver, identity, telemetry, name }: AccelNode) {
  const { transport } = identity
  const { vendor, device, subsystemVendor, subsystem, revision, classCode } =
    identity.bus === 'pci' ? identity : noPciIds
  return {
    ...{ vendor, device, subsystemVendor, subsystem, revision, classCode },
    known: { pci: identity.bus === 'pci' },
    bus: identity.bus,
    emulated: transport.emulated === undefined ? 'unknown' : transport.emulated ? 'yes' : 'no',
    uapiVersion: driver.uapi.version,
    node: name,
    driver: driver.name,
    driverVersion: fit(driver.version ?? '', 32),
    uapi: driver.uapi.name,
    name: fit(telemetry.name ?? (identity.bus === 'platform' ? identity.name : ''), 64),
    firmware: fit(telemetry.firmware ?? '', 64),
    transport: transport.kind,
    address: fit(transport.address, 256),
    iommu: transport.iommu ?? '',
    tainted: fit(transport.tainted ?? '', 256),
  } as const satisfies QueryAnswer<'identity'>
}

/** What a node has counted. */
export function countersOf({ record }: AccelNode) {
  const { counters, opens, resets, events, refusals, errors } = record
  return {
    submissions: BigInt(counters.submissions),
    completions: BigInt(counters.completions),
    failures: BigInt(counters.failures),
    drops: BigInt(counters.drops),
    refusals: BigInt(refusals),
    opens: BigInt(opens.total),
    resets: BigInt(resets.total),
    events: BigInt(events.last),
    eventsLost: BigInt(events.overwritten),
    errors: [...errors].map(([error, count]) => ({ error, count: BigInt(count) })),
  } satisfies QueryAnswer<'counters'>
}

/** What a node says to a query. */
const answers: { readonly [K in QueryKind]: (ask: Ask) => MaybePromise<Answer<K>> } = {
  identity: ({ node }) => identityOf(node),

  status: async ({ node, driver }) => {
    // A node in a reset says so, and does not wait for its driver.
    const said = node.status.state === 'operational' ? await driver('health') : undefined
    const { state, reason } =
      node.status.state === 'operational' ? { reason: '', ...(said ?? node.status) } : node.status
    return { state, reason: fit(reason, 256), opens: node.opens.size }
  },

  limits: async ({ node, driver }) => ({
    entries: [
      { name: 'attributeBytes', unit: 'bytes', value: BigInt(ATTRIBUTE_VALUE_BYTES) },
      { name: 'eventHistory', unit: '', value: BigInt(EVENT_HISTORY) },
      { name: 'attributeTime', unit: 'ms', value: whole(node.limits.attributeMs) },
      ...quotasOf(node),
      ...((await driver('limits')) ?? []).map(({ name, unit = '', value }) => ({
        name,
        unit,
        value: whole(value),
      })),
    ],
  }),

  memoryRegions: async ({ node, driver }) => {
    const own = await driver('memoryRegions')
    const bars = (node.device?.regions ?? []).slice(0, 6).filter(({ sizeBytes }) => sizeBytes > 0)
    return {
      entries: [
        ...bars.map(({ index, sizeBytes, mappable }) => ({
          name: `bar${index}`,
          kind: 'bar' as const,
          known: {},
          mappable: mappable.length > 0,
          sizeBytes: BigInt(sizeBytes),
          usedBytes: 0n,
        })),
        ...(own ?? []).map(({ name, sizeBytes, usedBytes, mappable = false }) => ({
          name,
          kind: 'device' as const,
          known: known({ used: usedBytes }),
          mappable,
          sizeBytes: whole(sizeBytes),
          usedBytes: whole(usedBytes),
        })),
      ],
    }
  },

  engines: async ({ node, driver }) => {
    const own = await driver('engines')
    const { command, job } = node.record.counters.busy
    const engines: Engine[] = [{ name: 'command', busyNs: command.ns() }]
    if (node.jobDepth !== undefined) {
      engines.push({ name: 'job', instances: node.jobDepth, busyNs: job.ns() })
    }
    engines.push(...(own ?? []))
    return {
      entries: engines.map(({ name, instances = 1, busyNs, heartbeat, utilisationPermille }) => {
        const atNs = process.hrtime.bigint()
        const measured =
          busyNs === undefined ? undefined : node.utilisation.of(name, whole(busyNs), instances, atNs)
        const utilisation = utilisationPermille ?? measured
        return {
          name,
          instances,
          known: known({ busy: busyNs, heartbeat, utilisation }),
          utilisationPermille: utilisation ?? 0,
          busyNs: whole(busyNs),
          heartbeat: whole(heartbeat),
          atNs,
        }
      }),
    }
  },

  clocks: async ({ driver }) => {
    const clocks = await driver('clocks')
    return (
      clocks && {
        entries: clocks.map(({ name, hz, maxHz }) => ({
          name,
          known: known({ max: maxHz }),
          hz: whole(hz),
          maxHz: whole(maxHz),
        })),
      }
    )
  },

  power: async ({ driver }) => {
    const power = await driver('power')
    if (!power) return undefined
    const { drawnMicrowatts, capMicrowatts, energyMicrojoules, state = '' } = power
    return {
      known: known({ drawn: drawnMicrowatts, cap: capMicrowatts, energy: energyMicrojoules }),
      drawnMicrowatts: whole(drawnMicrowatts),
      capMicrowatts: whole(capMicrowatts),
      energyMicrojoules: whole(energyMicrojoules),
      state,
    }
  },

  sensors: async ({ driver }) => {
    const sensors = await driver('sensors')
    return (
      sensors && {
        entries: sensors.map(({ exponent = 0, value, min, max, critical, ...sensor }) => ({
          ...sensor,
          exponent,
          known: known({ min, max, critical }),
          value: whole(value),
          min: whole(min),
          max: whole(max),
          critical: whole(critical),
        })),
      }
    )
  },

  contexts: ({ node, open: self }) => ({
    entries: [...node.opens].map((open) => {
      const { id, rights, peer, counters, record } = open
      return {
        id,
        self: open === self,
        known: known({ peer }),
        ...peerOf(peer),
        rights: { reset: rights.reset, owner: rights.as === 'owner', group: rights.as === 'group' },
        openedNs: record.openedNs,
        busyNs: counters.busyNs(),
        submissions: BigInt(counters.submissions),
        completions: BigInt(counters.completions),
        failures: BigInt(counters.failures),
      }
    }),
  }),

  counters: ({ node }) => countersOf(node),

  resets: ({ node: { record } }) => ({
    total: record.resets.total,
    entries: record.resets.latest.map(({ kind, startedNs, durationNs, reason, error }) => ({
      kind,
      startedNs,
      durationNs,
      reason: fit(reason, 160),
      error: error === undefined ? 0 : errorTable[error].number,
    })),
  }),

  opens: ({ node: { record } }) => ({
    total: record.opens.total,
    entries: record.opens.latest.map(({ id, peer, openedNs, closedNs }) => ({
      id,
      known: known({ closed: closedNs, peer }),
      ...peerOf(peer),
      openedNs,
      closedNs: closedNs ?? 0n,
    })),
  }),

  timeSync: async ({ driver }) => {
    const before = process.hrtime.bigint()
    const realtimeNs = BigInt(Date.now()) * 1_000_000n
    const times = await driver('time')
    const tookNs = process.hrtime.bigint() - before
    return (
      times && {
        entries: times.map(({ name, ticks, ticksPerSecond }) => ({
          name,
          deviceTicks: whole(ticks),
          ticksPerSecond: whole(ticksPerSecond),
          monotonicNs: before + tookNs / 2n,
          realtimeNs: realtimeNs + tookNs / 2n,
          uncertaintyNs: tookNs / 2n + DATE_RESOLUTION_NS,
        })),
      }
    )
  },

  usage: async ({ node, open: self, from, driver }) => {
    const engines = await driver('engines')
    // Each open has its memory looked at: of those that are asked for, and no others.
    const asked = [...node.opens].slice(from, from + (room.get(queryUapi.commands.usage.number) ?? 0))
    const entries = asked.map(async (open) => ({
      open: open.id,
      self: open === self,
      text: fdinfo(node, open, await driver('usage', open.id), engines),
    }))
    return { entries: await Promise.all(entries), total: node.opens.size, cut: true }
  },
}

/** Date.now() gives whole milliseconds. */
const DATE_RESOLUTION_NS = 1_000_000n

/** How many entries of each list kind fit; of no list, none. */
const room = new Map(
  Object.values(queryUapi.commands).map(({ number, out }) => {
    const entries = out.layout.fields.find(({ name }) => name === 'entries')
    return [number, entries?.description.type === 'array' ? entries.description.max : undefined]
  }),
)

/**
 * Answers command `query`.
 *
 * @throws ERR_ACCEL_UNKNOWN_COMMAND no such kind; ERR_ACCEL_RESERVED `from` of a kind that is no list; ERR_ACCEL_IO what the
 *   driver gave cannot be told; what the driver throws, ERR_ACCEL_TIMEOUT
 */
export async function answerQuery(
  node: AccelNode,
  open: Open,
  { kind, from, sizeBytes }: { readonly kind: number; readonly from: number; readonly sizeBytes: number },
): Promise<{ present: boolean; truncated: boolean; sizeBytes: number; data: Uint8Array }> {
  const { name, out } = queryUapi.byNumber(kind)
  const max = room.get(kind)
  if (max === undefined && from !== 0) {
    throw accelError(
      'ERR_ACCEL_RESERVED',
      `query of ${name}: it is no list, and from must be 0, found ${from}`,
    )
  }
  const ask: Ask = {
    node,
    open,
    from,
    async driver(what, ...args) {
      const telemetry = await node.ready()
      const asked = telemetry[what] as ((...given: unknown[]) => MaybePromise<never>) | undefined
      if (asked === undefined) return undefined
      const saying = Promise.resolve().then(() => asked.apply(telemetry, args))
      return within(saying, node.limits.attributeMs, `${what} of driver ${node.driver.name}`)
    },
  }
  const answer = await answers[name as QueryKind](ask)
  if (answer === undefined) return { present: false, truncated: false, sizeBytes: 0, data: new Uint8Array() }
  const data = encode(node, name, () => {
    if (max === undefined) return out.encode(answer as Readonly<Record<string, unknown>>)
    const { entries, total = entries.length, cut } = answer as Listed<unknown>
    return out.encode({ total, entries: cut ? entries : entries.slice(from, from + max) })
  })
  const rest = data.subarray(sizeBytes)
  return {
    present: true,
    truncated: rest.some((byte) => byte !== 0),
    sizeBytes: data.length,
    data: data.subarray(0, sizeBytes),
  }
}

/** What does not fit its field is a mistake of the driver, not of who asks. */
function encode(node: AccelNode, kind: string, encoding: () => Uint8Array): Uint8Array {
  try {
    return encoding()
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_IO',
      `${kind} of ${node.name} cannot be told: driver ${node.driver.name} gave a value that does not fit: ${(cause as Error).message}`,
      { cause },
    )
  }
}
