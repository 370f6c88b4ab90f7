import type { Registers } from './registers.js'

/** The performance counters (4.2), in the order of their offsets. */
const names = ['cycles', 'descriptors', 'errors', 'read', 'written', 'macs'] as const
const FIRST = 0x90
const indexOf = Object.fromEntries(names.map((name, i) => [name, i])) as Record<Counter, number>

type Counter = (typeof names)[number]

export class Counters {
  #running = new Float64Array(names.length)
  #shown: Float64Array | undefined

  add(name: Counter, count: number): void {
    this.#running[indexOf[name]] += count
  }

  reset(): void {
    this.#running.fill(0)
    this.#shown = undefined
  }

  declare(registers: Registers): void {
    for (let i = 0; i < names.length; i++) {
      const value = () => (this.#shown ?? this.#running)[i]
      const name = `PERF_${names[i].toUpperCase()}`
      registers.add(`${name}_LO`, FIRST + 8 * i, 'ro', { read: () => value() % 2 ** 32 })
      registers.add(`${name}_HI`, FIRST + 8 * i + 4, 'ro', { read: () => Math.floor(value() / 2 ** 32) })
    }
    registers.add('PERF_CTRL', 0x80, 'rw', {
      read: () => Number(this.#shown !== undefined),
      write: (value) => {
        if ((value & 1) === 0) this.#shown = undefined
        else this.#shown ??= this.#running.slice()
      },
    })
    registers.add('PERF_CLEAR', 0x84, 'wo', {
      write: (value) => {
        if ((value & 1) !== 0) this.#running.fill(0)
      },
    })
  }
}
