import type { Access } from '@uaccel/core'
import type { BitAccess, ReadEffect, WriteEffect } from './description.js'

/** How a register is declared: by one kind, or by one to read it and another to write it, at the same place. */
export type Declared = readonly [Access] | readonly [read: Access, write: 'wo']

/**
 * The access kinds of a register whose bits may be touched so. `undefined`: software may not touch it.
 *
 * Where a write of what was read would change something, the register is declared twice, once to be read and once to be written: there is
 * no `update` then that would do it unseen. A register whose written bits are all cleared by ones is w1c.
 */
export function declaredAccess(parts: readonly BitAccess[]): Declared | undefined {
  const writing = parts.filter(({ write }) => write !== 'none')
  const reading = parts.filter(({ read }) => read !== 'none')
  const readsChange = reading.some(({ read }) => read !== 'plain')
  if (writing.length === 0) return reading.length === 0 ? undefined : [readsChange ? 'rc' : 'ro']
  if (reading.length === 0) return ['wo']
  if (readsChange) return ['rc', 'wo']
  const all = (effect: WriteEffect) => writing.every(({ write, once }) => write === effect && !once)
  if (all('plain')) return ['rw']
  return all('oneClears') ? ['w1c'] : ['ro', 'wo']
}

const readWords: Readonly<Record<ReadEffect, string>> = {
  none: '',
  plain: '',
  clears: 'reading clears it',
  sets: 'reading sets it',
  other: 'reading has an effect',
}

const writeWords: Readonly<Record<WriteEffect, string>> = {
  none: '',
  plain: '',
  oneClears: 'a written one clears it',
  oneSets: 'a written one sets it',
  oneToggles: 'a written one toggles it',
  zeroClears: 'a written zero clears it',
  zeroSets: 'a written zero sets it',
  zeroToggles: 'a written zero toggles it',
  clears: 'any write clears it',
  sets: 'any write sets it',
  other: 'writing has an effect of its own',
}

/** What is out of the ordinary in how bits may be touched, for people, and what `kind` does not say already; empty where nothing is. */
export function accessWords({ read, write, once }: BitAccess, kind?: Access): string {
  const only =
    read !== 'none' && write === 'none'
      ? 'read-only'
      : read === 'none' && write !== 'none'
        ? 'write-only'
        : ''
  const first = once && write !== 'none' ? 'only the first write after a reset counts' : ''
  const said = kind === undefined ? [] : implied[kind]
  return [only, readWords[read], writeWords[write], first]
    .filter((part) => part !== '' && !said.includes(part))
    .join(', ')
}

const implied: Readonly<Record<Access, readonly string[]>> = {
  ro: ['read-only'],
  wo: ['write-only'],
  rw: [],
  w1c: [writeWords.oneClears],
  rc: ['read-only', readWords.clears],
}

/** True where a kind of {@link Access} says all that there is to say of such bits. */
export const isOrdinary = ({ read, write, once }: BitAccess): boolean =>
  !once && ['none', 'plain', 'clears'].includes(read) && ['none', 'plain', 'oneClears'].includes(write)

/** True where a read or a write of such bits does more than that. */
export const hasEffect = ({ read, write, once }: BitAccess): boolean =>
  once || !['none', 'plain'].includes(read) || !['none', 'plain'].includes(write)
