import type { AccelNode } from './node.js'
import type { Open } from './open.js'
import type { ClientUsage, Engine, MemoryUsage, Quantity } from './telemetry.js'
import { fit } from './text.js'

/** Keys of memory, by what a driver says of it (Documentation/gpu/drm-usage-stats.rst, "Memory"). */
const memoryKeys: Readonly<Record<keyof MemoryUsage, string>> = {
  totalBytes: 'total',
  sharedBytes: 'shared',
  residentBytes: 'resident',
  purgeableBytes: 'purgeable',
  activeBytes: 'active',
}

/** Room for the text of one open in QUERY. */
const TEXT_BYTES = 1000

/** What the kernel's documentation calls normal memory: buffer objects are there. */
const SYSTEM_REGION = 'memory'

/**
 * What one open uses, with the keys of DRM's fdinfo, a line each. What is not known has no line.
 *
 * @param all The driver's engines, of which there may be several alike.
 */
export function fdinfo(
  node: AccelNode,
  open: Open,
  { engines, memory }: ClientUsage = {},
  all: readonly Engine[] = [],
): string {
  const { identity, driver, jobDepth } = node
  const { address, kind } = identity.transport
  const lines: [key: string, value: string][] = [['drm-driver', driver.name]]
  // Only there the address is that of a PCI slot.
  if (identity.bus === 'pci' && (kind === 'vfio' || kind === 'uio')) lines.push(['drm-pdev', address])
  lines.push(['drm-client-id', `${open.id}`])
  const { command, job } = open.counters.busy
  const busy: Readonly<Record<string, Quantity>> = {
    command: command.ns(),
    ...(jobDepth === undefined ? {} : { job: job.ns() }),
    ...engines,
  }
  const capacity = new Map(all.map(({ name, instances }) => [name, instances ?? 1]))
  if (jobDepth !== undefined) capacity.set('job', jobDepth)
  for (const [name, ns] of Object.entries(busy)) {
    lines.push([`drm-engine-${key(name)}`, `${whole(ns)} ns`])
    const alike = capacity.get(name) ?? 1
    if (alike > 1) lines.push([`drm-engine-capacity-${key(name)}`, `${alike}`])
  }
  const regions = { [SYSTEM_REGION]: node.work.memoryOf(open), ...memory }
  for (const [region, usage] of Object.entries(regions)) {
    for (const [part, name] of Object.entries(memoryKeys)) {
      const sizeBytes = usage[part as keyof MemoryUsage]
      if (sizeBytes !== undefined) lines.push([`drm-${name}-${key(region)}`, `${whole(sizeBytes)}`])
    }
  }
  const text = lines.map(([name, value]) => `${name}:\t${value}\n`).join('')
  const fitting = fit(text, TEXT_BYTES)
  // Whole lines only: half a number would be another one.
  return fitting.length === text.length ? text : fitting.slice(0, fitting.lastIndexOf('\n') + 1)
}

const whole = (quantity: Quantity) => (typeof quantity === 'number' ? Math.round(quantity) : quantity)

/** Keys have neither white space nor colons. */
const key = (name: string) => name.replace(/[\s:]/g, '-')
