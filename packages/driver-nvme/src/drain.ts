import type { ProducerRing } from '@uaccel/memory'
import type { CommandListener } from './queue.js'

// What is known of a CID: the turn of the watchdog in which its command began, or was to be aborted, and these bits. Of one that is free
// the number of the next that is free, inverted, which is negative; `depth` ends that list.
export const TURNS_MASK = (1 << 28) - 1
/** It is to be aborted. */
export const ABORTING = 1 << 28
/** It ends when something happens, and not before: no limit in time counts for it. */
export const ENDLESS = 1 << 29

/** Behind the states of `depth` CIDs: the first that is free; of a poll the next slot, and the phase bit of what is new there. */
export const STATE = { firstFree: 0, slot: 1, phase: 2, words: 3 } as const

/** What happens so seldom that it is a call. */
export interface Seldom {
  /** A command has ended that was to be aborted, or endless. */
  forget(state: number): void
  /** A listener has thrown. */
  reportLater(error: unknown): void
}

/** Takes completions, a turn of the ring at most: until none is new (0), a listener has thrown (1), or one cannot be (2). */
export type Drain = () => number

/**
 * Makes the loop that takes the completions of one queue. Whatever it works on is a constant of it; numbers are numerals, and what changes is in a
 * typed array: no load of a field, no tag, no check of overflow is left for V8 to make.
 */
export function makeDrain(
  sq: ProducerRing,
  answers: Int32Array,
  states: Int32Array,
  listeners: readonly (CommandListener | undefined)[],
  depth: number,
  id: number,
  seldom: Seldom,
): Drain {
  const queue = id << 16
  const slotAt = depth + 1
  const phaseAt = depth + 2
  return function drain() {
    let slot = states[slotAt]
    let phase = states[phaseAt]
    const end = slot
    do {
      const at = (slot & depth) << 2
      const last = answers[at + 3]
      if ((last & 0x1_0000) !== phase) return 0
      // Nothing of it is believed before it was held to what is under way.
      const head = (answers[at + 2] ^ queue) >>> 0
      const result = answers[at]
      const cid = last & 0xffff
      if (head > depth || cid >= depth) return 2
      const state = states[cid]
      if (state < 0 || !sq.take(head)) return 2
      slot = (slot + 1) & depth
      if (slot === 0) {
        phase ^= 0x1_0000
        states[phaseAt] = phase
      }
      states[slotAt] = slot
      states[cid] = ~states[depth]
      states[depth] = cid
      if (state > 0xfff_ffff) seldom.forget(state)
      try {
        ;(listeners[cid] as CommandListener).completed(cid, (last >>> 17) & 0x7fff, result)
      } catch (error) {
        seldom.reportLater(error)
        return 1
      }
    } while (slot !== end)
    return 0
  }
}
