import { type BitsField, bits, type ChoiceField } from '../../fields.js'

/** Bits whose number stands for something else: a size, a count, a speed. */
export interface MeantField extends BitsField {
  readonly meaning: (raw: number) => number | string
}

/** Bits `hi` to `lo`, and what their number means. */
export function means(hi: number, lo: number, meaning: MeantField['meaning']): MeantField {
  return { ...bits(hi, lo), meaning }
}

/** Each value by its name, from 0 on. */
export function names(hi: number, lo: number, ...values: readonly string[]): ChoiceField {
  return {
    kind: 'choice',
    hi,
    lo,
    choices: Object.fromEntries(values.map((name, value) => [name, value])),
  }
}

/** `base`, `2 * base`, `4 * base`, ... */
export const doubles = (hi: number, lo: number, base = 1): MeantField =>
  means(hi, lo, (raw) => base * 2 ** raw)

/** An address or offset of which the low bits are not there. */
export const aligned = (hi: number, lo: number): MeantField => means(hi, lo, (raw) => raw * 2 ** lo)

/** Link speeds by their number (PCI Express 6.0, 7.5.3.6: Supported Link Speeds). */
const speeds = ['2.5GT/s', '5GT/s', '8GT/s', '16GT/s', '32GT/s', '64GT/s']
export const linkSpeed = (hi: number, lo: number): MeantField =>
  means(hi, lo, (raw) => speeds[raw - 1] ?? raw)
/** A bit for each speed (7.5.3.18: Supported Link Speeds Vector). */
export const linkSpeeds = (hi: number, lo: number): MeantField =>
  means(hi, lo, (raw) => speeds.filter((_, bit) => (raw & (1 << bit)) !== 0).join(',') || 'none')

const powerScales = [1, 0.1, 0.01, 0.001]
/** Slot power limit (7.5.3.9): value in the low 8 bits, scale in the next two. Above 239 W the values are steps. */
export const powerLimitWatts = (hi: number, lo: number): MeantField =>
  means(hi, lo, (raw) => {
    const value = raw & 0xff
    const scale = raw >> 8
    if (scale === 0 && value === 0xff) return '>600'
    const watts = scale === 0 && value >= 0xf0 ? 250 + 25 * (value - 0xf0) : value * powerScales[scale]!
    return Number(watts.toFixed(3))
  })

/** Latency tolerance (7.8.2): value in the low ten bits, times 32 to the power of the scale in the next three. */
export const latencyNs = (hi: number, lo: number): MeantField =>
  means(hi, lo, (raw) => (raw & 0x3ff) * 32 ** (raw >> 10))

export const acceptableL0s = (hi: number, lo: number) =>
  names(hi, lo, '<64ns', '<128ns', '<256ns', '<512ns', '<1us', '<2us', '<4us', 'unlimited')
export const acceptableL1 = (hi: number, lo: number) =>
  names(hi, lo, '<1us', '<2us', '<4us', '<8us', '<16us', '<32us', '<64us', 'unlimited')
export const exitL0s = (hi: number, lo: number) =>
  names(hi, lo, '<64ns', '<128ns', '<256ns', '<512ns', '<1us', '<2us', '<4us', '>4us')
export const exitL1 = (hi: number, lo: number) =>
  names(hi, lo, '<1us', '<2us', '<4us', '<8us', '<16us', '<32us', '<64us', '>64us')
