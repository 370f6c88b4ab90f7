import { accelError } from '@uaccel/uapi'
import type { ModelBar, ModelDefinition } from './types.js'

const PAGE_BYTES = 4096

/** Gives a definition its type where it is written. */
export function defineModel<Options = object>(
  definition: ModelDefinition<Options>,
): ModelDefinition<Options> {
  return definition
}

/** Refuses a definition that no PCI function could have. @throws ERR_ACCEL_INVALID_ARGUMENT */
export function checkDefinition({
  identity,
  bars,
  interrupts,
  addressBits = 64,
}: ModelDefinition<never>): void {
  const refuse = (why: string): void => {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `The model ${identity.name} ${why}.`)
  }
  if (!(addressBits >= 1 && addressBits <= 64))
    refuse(`has ${addressBits} address bits; 1 to 64 are possible`)
  const slots = new Set<number>()
  const names = new Set<string>()
  for (const bar of bars) {
    for (const slot of bar.kind === 'mem64' ? [bar.index, bar.index + 1] : [bar.index]) {
      if (slot > 5 || slots.has(slot)) refuse(`needs BAR slot ${slot} twice, or beyond 5`)
      slots.add(slot)
    }
    if (bar.sizeBytes < 16 || !Number.isInteger(Math.log2(bar.sizeBytes))) {
      refuse(`gives BAR${bar.index} ${bar.sizeBytes} bytes; it takes a power of two of at least 16`)
    }
    checkMemory(bar, names, refuse)
  }
  const { msi, msix } = interrupts
  if (msi !== undefined && ![1, 2, 4, 8, 16, 32].includes(msi)) refuse(`offers ${msi} MSI vectors`)
  if (msix === undefined) return
  if (!(msix.vectors >= 1 && msix.vectors <= 2048)) refuse(`offers ${msix.vectors} MSI-X vectors`)
  const bar = bars.find(({ index }) => index === msix.bar)
  if (bar === undefined) {
    refuse(`puts its MSI-X table into BAR${msix.bar}, which it lacks`)
    return
  }
  const table = { offset: msix.tableOffset, sizeBytes: msix.vectors * 16 }
  const pending = { offset: msix.pbaOffset, sizeBytes: Math.ceil(msix.vectors / 64) * 8 }
  for (const area of [table, pending]) {
    if (area.offset % 8 !== 0 || area.offset + area.sizeBytes > bar.sizeBytes) {
      refuse(`has an MSI-X table or pending bits that are not aligned to 8 or do not fit BAR${bar.index}`)
    }
    const others = [...(bar.memory ?? []), area === table ? pending : table]
    if (others.some((other) => overlap(area, other)))
      refuse('has MSI-X structures that overlap something else')
  }
}

function checkMemory(
  { index, sizeBytes, memory = [] }: ModelBar,
  names: Set<string>,
  refuse: (why: string) => void,
): void {
  for (const [i, part] of memory.entries()) {
    if (names.has(part.name)) refuse(`names two memory parts ${part.name}`)
    names.add(part.name)
    if (part.offset % PAGE_BYTES !== 0 || part.sizeBytes % PAGE_BYTES !== 0 || part.sizeBytes <= 0) {
      refuse(`has memory ${part.name} in BAR${index} that is not whole pages of ${PAGE_BYTES} bytes`)
    }
    if (part.offset + part.sizeBytes > sizeBytes)
      refuse(`has memory ${part.name} beyond the end of BAR${index}`)
    const next = memory[i + 1]
    if (next !== undefined && next.offset < part.offset + part.sizeBytes) {
      refuse(`has memory parts in BAR${index} that overlap or are not in ascending order`)
    }
  }
}

function overlap(
  a: { offset: number; sizeBytes: number },
  b: { offset: number; sizeBytes: number },
): boolean {
  return a.offset < b.offset + b.sizeBytes && b.offset < a.offset + a.sizeBytes
}
