import { accelError } from '@uaccel/uapi'
import type { DescribedGroup, Description } from './description.js'

/**
 * Blocks of a file by name: a peripheral, a memory map, an address block, or a register file by its path (`dma.channels`). Their own
 * offset becomes 0: registers count from where they begin. All of the file's blocks where no names are given.
 *
 * @throws ERR_ACCEL_NOT_FOUND with the names that there are
 */
export function selectBlocks(
  { name, blocks }: Description,
  wanted: readonly string[] = [],
): DescribedGroup[] {
  if (wanted.length === 0) return [...blocks]
  const all = blocks.flatMap((block) => named(block, ''))
  return wanted.map((path) => {
    const exact = all.filter((one) => one.path === path)
    const found =
      exact.length > 0
        ? exact
        : all.filter((one) => one.path.toUpperCase().endsWith(`.${path.toUpperCase()}`))
    const loose =
      found.length > 0 ? found : all.filter((one) => one.path.toUpperCase() === path.toUpperCase())
    if (loose.length === 1) return loose[0].group
    const names = (loose.length > 1 ? loose : all).map((one) => one.path)
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${name} has ${loose.length > 1 ? `${loose.length} blocks` : 'no block'} ${path}; there are ${names.slice(0, 40).join(', ')}${names.length > 40 ? ', ...' : ''}.`,
    )
  })
}

function named(group: DescribedGroup, prefix: string): { path: string; group: DescribedGroup }[] {
  const path = prefix + group.name
  return [
    { path, group },
    ...group.members.flatMap((member) => (member.kind === 'group' ? named(member, `${path}.`) : [])),
  ]
}
