import type { AccelNode } from './node.js'
import type { Open } from './open.js'
import type { ClientUsage, MemoryUsage, Quantity } from './telemetry.js'
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

/** What one open uses, with the keys of DRM's fdinfo, a line each. What is not known has no line. */
export function fdinfo(node: AccelNode, open: Open, { engines, memory }: ClientUsage = {}): string {
  const { identity, driver } = node
  const { address, kind } = identity.transport
  const lines: [key: string, value: string][] = [['drm-driver', driver.name]]
  // Only there the address is that of a PCI slot.
  if (identity.bus === 'pci' && (kind === 'vfio' || kind === 'uio')) lines.push(['drm-pdev', address])
  lines.push(['drm-client-id', `${open.id}`])
  const busy: Readonly<Record<string, Quantity>> = { command: open.counters.busyNs(), ...engines }
  for (const [name, ns] of Object.entries(busy)) lines.push([`drm-engine-${key(name)}`, `${whole(ns)} ns`])
  for (const [region, usage] of Object.entries(memory ?? {})) {
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
