import { accelError } from '@uaccel/uapi'

const MAX_HANDLE = 0xffff_ffff

/** The objects of one open, by number. A number is not given again before all others were. */
export class Handles<T extends object> {
  readonly #owner: string
  readonly #objects = new Map<number, T>()
  #last = 0
  #highest = 0

  constructor(owner: string) {
    this.#owner = owner
  }

  get size(): number {
    return this.#objects.size
  }

  values(): Iterable<T> {
    return this.#objects.values()
  }

  add(object: T): number {
    do {
      this.#last = this.#last === MAX_HANDLE ? 1 : this.#last + 1
    } while (this.#objects.has(this.#last))
    this.#highest = Math.max(this.#highest, this.#last)
    this.#objects.set(this.#last, object)
    return this.#last
  }

  /** `ERR_ACCEL_NOT_FOUND` for a number that this open was not given, or not for that kind; `ERR_ACCEL_CLOSED` where it was given back. */
  get<K extends T>(handle: number, kind: new (...args: never[]) => K, what: string): K {
    const object = this.#objects.get(handle)
    if (object instanceof kind) return object
    if (object === undefined && handle > 0 && handle <= this.#highest) {
      throw accelError('ERR_ACCEL_CLOSED', `Handle ${handle} of ${this.#owner} was destroyed and then used`)
    }
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${this.#owner} has no ${what} of handle ${handle}: handles belong to the open that made them`,
    )
  }

  /** The handle of an object that has one. */
  of(object: T): number | undefined {
    for (const [handle, found] of this.#objects) if (found === object) return handle
    return undefined
  }

  delete(handle: number): void {
    this.#objects.delete(handle)
  }

  clear(): void {
    this.#objects.clear()
  }
}
