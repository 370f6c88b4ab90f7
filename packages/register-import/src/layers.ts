import { declaredAccess } from './access.js'
import {
  at,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  notTaken,
  wrongAt,
} from './description.js'
import { MAX_REGISTERS } from './limits.js'

/** Registers at one place; a serial port of 1987 has three. */
const MAX_LAYERS = 32

const WIDTHS: readonly number[] = [8, 16, 32, 64]

/** What takes a byte, for those who read it and those who write it. */
interface Taken {
  read?: DescribedRegister
  write?: DescribedRegister
}
type Bytes = Map<number, Taken>

/**
 * Checks where the registers of a block are, and divides them into layers: all that the file calls an alternate of another goes into the
 * first layer in which its place is free, so that no map has two registers at one place. With `apart`, any register does.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT with the place for overlaps, misalignment; ERR_ACCEL_OUT_OF_RANGE for what lies too far or is too much
 */
export function layersOf(block: DescribedGroup, apart: boolean): DescribedMember[][] {
  checkCount(block)
  const layers: Bytes[] = [new Map()]
  const homes = new Map<DescribedMember, number>()
  const alternates: { member: DescribedMember; bases: readonly number[] }[] = []
  const visit = (member: DescribedMember, bases: readonly number[]): void => {
    if (member.alternate || (apart && member.kind === 'register')) {
      alternates.push({ member, bases })
      return
    }
    const starts = startsOf(member, bases)
    if (member.kind === 'group') for (const inner of member.members) visit(inner, starts)
    else occupy(layers[0], member, starts)
  }
  for (const member of block.members) visit(member, [0])
  for (const { member, bases } of alternates) {
    let home = layers.findIndex((bytes) => isFree(bytes, member, bases))
    if (home < 0) home = layers.push(new Map()) - 1
    if (home > MAX_LAYERS)
      throw wrongAt(
        member.place,
        `${member.name} is at the place of ${home} others, more than ${MAX_LAYERS}`,
        'ERR_ACCEL_OUT_OF_RANGE',
      )
    homes.set(member, home)
    forEachRegister(member, bases, (register, starts) => occupy(layers[home], register, starts))
  }
  return layers.map((_, layer) => membersIn(block.members, layer, homes))
}

function membersIn(
  members: readonly DescribedMember[],
  layer: number,
  homes: ReadonlyMap<DescribedMember, number>,
): DescribedMember[] {
  return members.flatMap((member): DescribedMember[] => {
    const home = homes.get(member)
    if (home !== undefined) return home === layer ? [member] : []
    if (member.kind === 'register') return layer === 0 ? [member] : []
    const inner = membersIn(member.members, layer, homes)
    return inner.length === 0 ? [] : [{ ...member, members: inner }]
  })
}

/** Counts before anything is spelt out. */
function checkCount(block: DescribedGroup): void {
  let left = MAX_REGISTERS
  const visit = (member: DescribedMember, times: number): void => {
    const total = times * (member.dimension?.count ?? 1)
    if (member.kind === 'register') left -= total
    if (left < 0 || total > MAX_REGISTERS)
      throw wrongAt(
        member.place,
        `with ${member.name}, ${block.name} has more than ${MAX_REGISTERS} registers`,
        'ERR_ACCEL_OUT_OF_RANGE',
      )
    if (member.kind === 'group') for (const inner of member.members) visit(inner, total)
  }
  for (const member of block.members) visit(member, 1)
}

function startsOf(member: DescribedMember, bases: readonly number[]): number[] {
  const { name, offset, dimension: { count, strideBytes } = { count: 1, strideBytes: 1 } } = member
  if (strideBytes < 1) throw wrongAt(member.place, `the elements of ${name} are ${strideBytes} bytes apart`)
  return bases.flatMap((base) =>
    Array.from({ length: count }, (_, i) => {
      const start = base + offset + i * strideBytes
      if (Number.isSafeInteger(start + 8)) return start
      throw wrongAt(
        member.place,
        `${name}${count > 1 ? `[${i}]` : ''} lies past 2^53 bytes`,
        'ERR_ACCEL_OUT_OF_RANGE',
      )
    }),
  )
}

function forEachRegister(
  member: DescribedMember,
  bases: readonly number[],
  use: (register: DescribedRegister, starts: readonly number[]) => void,
): void {
  const starts = startsOf(member, bases)
  if (member.kind === 'register') use(member, starts)
  else for (const inner of member.members) forEachRegister(inner, starts, use)
}

function directions(register: DescribedRegister): (keyof Taken)[] {
  const parts = register.fields.length > 0 ? register.fields.map(({ access }) => access) : [register.access]
  const kinds = declaredAccess(parts) ?? []
  return [
    ...(kinds[0] !== undefined && kinds[0] !== 'wo' ? (['read'] as const) : []),
    ...(kinds.some((kind) => kind !== 'ro' && kind !== 'rc') ? (['write'] as const) : []),
  ]
}

function isFree(bytes: Bytes, member: DescribedMember, bases: readonly number[]): boolean {
  let free = true
  forEachRegister(member, bases, (register, starts) => {
    const ways = directions(register)
    for (const start of starts) {
      for (let i = 0; i < register.width / 8; i++) {
        const taken = bytes.get(start + i)
        if (taken && ways.some((way) => taken[way] !== undefined)) free = false
      }
    }
  })
  return free
}

function occupy(bytes: Bytes, register: DescribedRegister, starts: readonly number[]): void {
  const { name, width, place } = register
  if (!WIDTHS.includes(width))
    throw notTaken(place, `register ${name} has ${width} bits; registers have ${WIDTHS.join(', ')}`)
  const ways = directions(register)
  for (const start of starts) {
    if (start % (width / 8) !== 0)
      throw wrongAt(
        place,
        `register ${name} of ${width} bits is at 0x${start.toString(16)}, which is not aligned`,
      )
    for (let i = start; i < start + width / 8; i++) {
      const taken = bytes.get(i) ?? {}
      for (const way of ways) {
        const other = taken[way]
        if (other)
          throw wrongAt(
            place,
            `register ${name} overlaps ${other.name} (${at(other.place)}) at 0x${i.toString(16)}; where that is meant, --overlaps (or overlaps: true) puts one into a map of its own`,
          )
        taken[way] = register
      }
      bytes.set(i, taken)
    }
  }
}
