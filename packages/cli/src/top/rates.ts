import { commandLine, userName } from '../nodes/people.js'
import {
  type Client,
  clientsOf,
  deviceMemory,
  hottest,
  interruptsFired,
  queuesOf,
} from '../nodes/sections.js'
import type { NodeView } from './watch.js'

/** What a line tells; what is not known is absent. Shares are 0 to 1, rates in a second. */
export interface DeviceRow {
  readonly target: string
  readonly name: string
  readonly state: string
  readonly busy: number | undefined
  readonly usedBytes: number | undefined
  readonly totalBytes: number | undefined
  readonly queues: string | undefined
  readonly temperature: number | undefined
  readonly watts: number | undefined
  readonly commands: number | undefined
  readonly interrupts: number | undefined
}

export interface EngineRow {
  readonly target: string
  readonly name: string
  readonly instances: number
  readonly busy: number | undefined
}

export interface ClientRow {
  readonly target: string
  readonly open: number
  readonly pid: number | undefined
  readonly user: string
  readonly busy: number | undefined
  readonly commands: number | undefined
  readonly memoryBytes: number | undefined
  readonly openedNs: bigint
  readonly command: string
}

/** Growth in a second. One that went back was cleared: then there is none to tell. */
function rate(
  before: bigint | number | undefined,
  now: bigint | number | undefined,
  tookNs: bigint,
): number | undefined {
  if (before === undefined || now === undefined || tookNs <= 0n) return undefined
  const grown = Number(BigInt(now) - BigInt(before))
  return grown < 0 ? undefined : (grown * 1e9) / Number(tookNs)
}

const largest = (values: readonly (number | undefined)[]) => {
  const known = values.filter((value) => value !== undefined)
  return known.length === 0 ? undefined : Math.max(...known)
}

const share = (perSecond: number | undefined) =>
  perSecond === undefined ? undefined : Math.min(1, perSecond / 1e9)

/** Commands and jobs that ended. */
const ended = (counters: { readonly completions: bigint; readonly failures: bigint } | undefined) =>
  counters && counters.completions + counters.failures

export function deviceRow(view: NodeView, state: string): DeviceRow {
  const { target, now, before } = view
  const { identity, counters, power } = now?.answers ?? {}
  const memory = now && deviceMemory(now)
  const tookNs = now && before ? now.atNs - before.atNs : 0n
  const number = (value: bigint | undefined) => (value === undefined ? undefined : Number(value))
  return {
    target,
    name: identity?.name || identity?.driver || '-',
    state,
    busy: largest(engineRows(view).map(({ busy }) => busy)),
    usedBytes: number(memory?.used),
    totalBytes: number(memory?.total),
    queues: now && queuesOf(now),
    temperature: now && hottest(now),
    watts: power?.known.drawn ? Number(power.drawnMicrowatts) / 1e6 : undefined,
    commands: rate(ended(before?.answers.counters), ended(counters), tookNs),
    interrupts: rate(before && interruptsFired(before), now && interruptsFired(now), tookNs),
  }
}

export function engineRows({ target, now, before }: NodeView): EngineRow[] {
  const earlier = new Map(before?.answers.engines?.entries.map((engine) => [engine.name, engine]))
  return (now?.answers.engines?.entries ?? []).map(
    ({ name, instances, known, busyNs, atNs, utilisationPermille }) => {
      const last = earlier.get(name)
      const own =
        known.busy && last?.known.busy
          ? rate(last.busyNs, busyNs, (atNs - last.atNs) * BigInt(Math.max(1, instances)))
          : undefined
      return {
        ...{ target, name, instances },
        busy: share(own) ?? (known.utilisation ? utilisationPermille / 1000 : undefined),
      }
    },
  )
}

/** Those of others: this program is one too, and of no interest. */
export function clientRows({ target, now, before }: NodeView): ClientRow[] {
  if (!now) return []
  const earlier = new Map((before && clientsOf(before))?.map((client) => [client.id, client]))
  const tookNs = before ? now.atNs - before.atNs : 0n
  return (clientsOf(now) ?? [])
    .filter(({ self }) => !self)
    .map((client) => {
      const last = earlier.get(client.id)
      const { id, known, pid, uid, usage, openedNs } = client
      return {
        target,
        open: id,
        pid: known.peer ? pid : undefined,
        user: known.peer ? userName(uid) : '-',
        busy:
          last &&
          largest(
            [...busyOf(client)].map(([name, ns]) =>
              share(rate(busyOf(last).get(name), ns, tookNs * BigInt(usage?.capacity.get(name) ?? 1))),
            ),
          ),
        commands: rate(last && ended(last), ended(client), tookNs),
        memoryBytes: usage?.memoryBytes === undefined ? undefined : Number(usage.memoryBytes),
        openedNs,
        command: (known.peer && commandLine(pid)) || '-',
      }
    })
}

/** What each engine worked for a client: where nothing tells that, the turn of its commands. */
const busyOf = ({ usage, busyNs }: Client): ReadonlyMap<string, bigint> =>
  usage?.busyNs ?? new Map([['command', busyNs]])
