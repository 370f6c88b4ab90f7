import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FILE = '.numbers.json'

/** Which number each device has: the same one again, also after a restart of the supervisor. Kept beside the nodes. */
export class Numbers {
  readonly #path: string
  readonly #known: Map<string, number>

  constructor(folder: string) {
    this.#path = join(folder, FILE)
    this.#known = new Map(read(this.#path))
  }

  /**
   * A number for each device, by key. One that the configuration gives is taken from whoever had it. What is new gets the lowest
   * that is nobody's; `reserved` are for devices that may come.
   */
  assign(
    devices: readonly { readonly key: string; readonly number: number | undefined }[],
    reserved: Iterable<number> = [],
  ): Map<string, number> {
    const assigned = new Map<string, number>()
    const taken = new Set<number>(reserved)
    const give = (key: string, number: number) => {
      assigned.set(key, number)
      taken.add(number)
    }
    for (const { key, number } of devices) if (number !== undefined) give(key, number)
    const others = devices.filter(({ number }) => number === undefined)
    for (const { key } of others) {
      const number = this.#known.get(key)
      if (number !== undefined && !taken.has(number)) give(key, number)
    }
    const remembered = new Set(this.#known.values())
    for (const { key } of others) {
      if (assigned.has(key)) continue
      let number = 0
      while (taken.has(number) || remembered.has(number)) number++
      give(key, number)
    }
    return assigned
  }

  /** Keeps what was assigned to devices to which the configuration gives no number. */
  keep(assigned: ReadonlyMap<string, number>): void {
    let changed = false
    for (const [key, number] of assigned) {
      if (this.#known.get(key) === number) continue
      for (const [other, its] of this.#known) if (its === number) this.#known.delete(other)
      this.#known.set(key, number)
      changed = true
    }
    if (!changed) return
    const draft = `${this.#path}.new`
    // Never through a link that somebody else has put there.
    rmSync(draft, { force: true })
    writeFileSync(draft, `${JSON.stringify(Object.fromEntries(this.#known), undefined, 2)}\n`, { flag: 'wx' })
    renameSync(draft, this.#path)
  }
}

/** What is not there, or not ours, is as if no number had been given. */
function read(path: string): [string, number][] {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof value !== 'object' || value === null) return []
    const numbers = new Set<number>()
    return Object.entries(value).filter((entry): entry is [string, number] => {
      const [, number] = entry
      if (!Number.isInteger(number) || number < 0 || number > 0xf_ffff || numbers.has(number)) return false
      numbers.add(number)
      return true
    })
  } catch {
    return []
  }
}
