import { type Access, type RegisterBank, type RegisterSpec, registerBank } from '@uaccel/model'

/** What reading and writing a register do. */
export interface Handlers {
  readonly read?: () => number
  readonly write?: (value: number) => void
}

/** Collects the 32-bit registers of BAR 0 from the parts of the controller (docs/devices/npu.md, section 4). */
export class Registers {
  readonly #specs: RegisterSpec[] = []

  add(name: string, offset: number, access: Access, handlers: Handlers): void {
    this.#specs.push({ name, offset, width: 4, access, ...handlers })
  }

  /** The two halves of a 64-bit value kept in `words`, writable while `writable` says so. */
  pair(name: string, offset: number, words: Uint32Array, at: number, writable: () => boolean): void {
    for (const [half, suffix] of ['LO', 'HI'].entries()) {
      this.add(`${name}_${suffix}`, offset + 4 * half, 'rw', {
        read: () => words[at + half],
        write: (value) => {
          if (writable()) words[at + half] = value
        },
      })
    }
  }

  build(): RegisterBank {
    return registerBank(this.#specs)
  }
}
