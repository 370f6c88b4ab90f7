import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { IrqType } from '../transport.js'
import { parseBdf } from './sysfs.js'

/** An interrupt of a PCI device as the kernel counts it. */
export interface KernelInterrupt {
  /** Linux's number. */
  readonly irq: number
  readonly type: Extract<IrqType, 'intx' | 'msi' | 'msix'>
  /** On all processors since it was requested. Absent where nobody has requested it. */
  readonly count?: number
  /** Who requested it: `vfio-msi[0](0000:00:05.0)`. A line may be shared. */
  readonly handler?: string
}

/** Where to look. */
export interface InterruptOptions {
  /** Default `/sys`. */
  readonly sysfs?: string
  /** Default `/proc`. */
  readonly proc?: string
}

/**
 * The interrupts that the kernel has given a PCI device, with their counts (msi_irqs of Documentation/ABI/testing/sysfs-bus-pci,
 * and /proc/interrupts). None for a device without a driver.
 */
export function readKernelInterrupts(
  address: string,
  { sysfs = '/sys', proc = '/proc' }: InterruptOptions = {},
): KernelInterrupt[] {
  const folder = join(sysfs, 'bus/pci/devices', parseBdf(address))
  const counts = parseInterrupts(read(join(proc, 'interrupts')) ?? '')
  const found = (irq: number, type: KernelInterrupt['type']): KernelInterrupt => ({
    irq,
    type,
    ...counts.get(irq),
  })
  const messages = names(join(folder, 'msi_irqs')).filter((name) => /^\d+$/.test(name))
  if (messages.length > 0) {
    return messages
      .map(Number)
      .sort((a, b) => a - b)
      .map((irq) => found(irq, read(join(folder, 'msi_irqs', `${irq}`))?.trim() === 'msi' ? 'msi' : 'msix'))
  }
  const line = Number(read(join(folder, 'irq')) ?? 0)
  return Number.isInteger(line) && line > 0 && counts.has(line) ? [found(line, 'intx')] : []
}

/** Lines of /proc/interrupts that begin with a number: a count for each processor, the chip, the hardware's number, who requested it. */
function parseInterrupts(text: string): Map<number, { count: number; handler: string }> {
  const [head = '', ...lines] = text.split('\n')
  const processors = head.trim().split(/\s+/).length
  const found = new Map<number, { count: number; handler: string }>()
  for (const line of lines) {
    const match = /^\s*(\d+):\s+(.*)$/.exec(line)
    if (!match) continue
    const words = match[2]!.split(/\s+/)
    const count = words.slice(0, processors).reduce((sum, word) => sum + Number(word), 0)
    const handler = /(?:edge|level|fasteoi)\s+(.*)$/.exec(match[2]!)?.[1] ?? words.at(-1)!
    if (Number.isSafeInteger(count)) found.set(Number(match[1]), { count, handler })
  }
  return found
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined // not there, or gone meanwhile
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
