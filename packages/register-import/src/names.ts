/** The words of a name in any style: `TxFifo_level`, `DMACtrl` and `TX_FIFO` have two or three each. */
function words(name: string): string[] {
  const mixed = /[a-z]/.test(name)
  const spaced = mixed
    ? name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').replace(/([A-Z])([A-Z][a-z]{2})/g, '$1_$2')
    : name
  return spaced.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
}

/** A name that begins with a digit is none in TypeScript. */
const identifier = (name: string): string => (/^[0-9]|^$/.test(name) ? `_${name}` : name)

/** Registers are UPPER_SNAKE. */
export const registerName = (name: string): string => identifier(words(name).join('_').toUpperCase())

/** Fields and their values are camelCase. */
export const fieldName = (name: string): string =>
  identifier(
    words(name)
      .map((word, i) => (i === 0 ? word.toLowerCase() : capital(word)))
      .join(''),
  )

/** Maps are PascalCase, and never a word that TypeScript has. */
export const mapName = (name: string): string => `${identifier(words(name).map(capital).join(''))}Registers`

const capital = (word: string): string => word[0].toUpperCase() + word.slice(1).toLowerCase()

/** Names of one scope: the second of a name gets a number, and `clash` hears of it. */
export class Names {
  readonly #taken = new Set<string>()

  take(wanted: string, clash: (name: string) => void): string {
    let name = wanted
    for (let n = 2; this.#taken.has(name); n++) name = `${wanted}_${n}`
    if (name !== wanted) clash(name)
    this.#taken.add(name)
    return name
  }
}
