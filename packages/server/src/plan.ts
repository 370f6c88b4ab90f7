import { describeId, matchDriver } from '@uaccel/accel'
import type { DeviceIdentity, PciIdentity } from '@uaccel/core'
import type { Config, Entry } from './config.js'
import type { DeviceJob, Way } from './messages.js'
import type { DriverModule } from './modules.js'
import type { Numbers } from './numbers.js'
import type { DeviceSpec } from './supervised.js'

/** What is to be served. */
export interface Plan {
  readonly specs: readonly DeviceSpec[]
  /** What the configuration names and cannot be served now, and why. */
  readonly waiting: readonly string[]
  /** Numbers of devices to which the configuration gives none. */
  readonly assigned: ReadonlyMap<string, number>
}

/** A device of the configuration, with its driver where that is known. */
interface Found {
  readonly key: string
  readonly entry: Entry
  readonly address: string
  readonly way: Way
  readonly drivers: readonly DriverModule[]
}

/** How often a process says that it lives, at most: its count of opens is of then. */
const BEAT_MS = 1_000

/** What a configuration asks for, with the devices that are bound to vfio-pci. Each gets the first entry that fits. */
export function plan(config: Config, identities: readonly DeviceIdentity[], numbers: Numbers): Plan {
  const found: Found[] = []
  const waiting: string[] = []
  const taken = new Set<DeviceIdentity>()
  for (const entry of config.entries) {
    const { selector } = entry
    const candidates = entry.driver ? [entry.driver] : config.drivers
    if (selector.kind === 'vfioUser') {
      const { path: address } = selector
      found.push({
        key: `vfio-user ${address}`,
        entry,
        address,
        way: { kind: 'vfioUser' },
        drivers: candidates,
      })
    } else if (selector.kind === 'model') {
      const { address, module, driver } = selector
      const way: Way = { kind: 'model', module }
      found.push({ key: `model ${address}`, entry, address, way, drivers: [driver] })
    } else {
      const mine = identities.filter(
        (identity): identity is PciIdentity =>
          identity.bus === 'pci' && !taken.has(identity) && names(entry, identity),
      )
      if (selector.kind === 'address' && mine.length === 0)
        waiting.push(
          `${selector.address} is not bound to vfio-pci: see \`uaccel doctor ${selector.address}\``,
        )
      for (const identity of mine) {
        const { address } = identity.transport
        const driver = matchDriver(
          candidates.map((candidate) => ({ ids: candidate.driver.ids, candidate })),
          identity,
        )
        if (driver) {
          taken.add(identity)
          const { iommu = 'auto', allowNoIommu = false } = entry.settings
          const way: Way = { kind: 'vfio', iommu, allowNoIommu }
          found.push({ key: `vfio ${address}`, entry, address, way, drivers: [driver.candidate] })
        } else if (selector.kind !== 'all') {
          const known = candidates.map(({ source }) => source).join(', ') || 'none'
          waiting.push(`${address} (${describeId(identity)}) has no driver among ${known}`)
        }
      }
    }
  }
  const assigned = numbers.assign(
    found.map(({ key, entry }) => ({ key, number: entry.number })),
    config.entries.flatMap(({ number }) => number ?? []),
  )
  return {
    specs: found
      .map((device) => specOf(config, device, assigned.get(device.key)!))
      .sort((a, b) => a.job.number - b.job.number),
    waiting,
    assigned: new Map(
      found.filter(({ entry }) => entry.number === undefined).map(({ key }) => [key, assigned.get(key)!]),
    ),
  }
}

function names({ selector }: Entry, { vendor, device, transport }: PciIdentity): boolean {
  if (selector.kind === 'address') return selector.address === transport.address
  return (
    selector.kind === 'all' ||
    (selector.kind === 'id' && selector.vendor === vendor && selector.device === device)
  )
}

function specOf(config: Config, { key, entry, address, way, drivers }: Found, number: number): DeviceSpec {
  const {
    mode,
    owner,
    group,
    exclusive,
    maxOpens,
    maxUserOpens,
    limits = {},
    timeouts = {},
    quotas = {},
    ...rest
  } = entry.settings
  const { drainMs = 5_000, heartbeatMs = 60_000, backOff = {} } = rest
  const { baseMs = 1_000, capMs = Math.max(60_000, baseMs), resetMs = 60_000, attempts = 0 } = backOff
  const job: DeviceJob = {
    number,
    address,
    way,
    drivers: drivers.map(({ module }) => module),
    serve: {
      folder: config.folder,
      limits,
      ...(mode === undefined ? {} : { mode }),
      ...(owner === undefined ? {} : { owner }),
      ...(group === undefined ? {} : { group }),
      ...(exclusive === undefined ? {} : { exclusive }),
      ...(maxOpens === undefined ? {} : { maxOpens }),
      ...(maxUserOpens === undefined ? {} : { maxUserOpens }),
    },
    timeouts,
    quotas,
    beatMs: Math.min(BEAT_MS, Math.floor(heartbeatMs / 4)),
  }
  const supervision = { drainMs, heartbeatMs, baseMs, capMs, resetMs, attempts }
  return { key, folder: config.folder, job, supervision }
}
