import { aligned } from './arena.js'

/** Constants that are to be in the device's memory, each content once. */
export class ConstantPool {
  readonly #kept: { readonly bytes: Uint8Array; readonly offset: number }[] = []
  readonly #byLook = new Map<string, { readonly bytes: Uint8Array; readonly offset: number }[]>()
  #sizeBytes = 0

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** The offset of these bytes; they are read again by `fill`. */
  keep(bytes: Uint8Array): number {
    // What looks alike at the beginning is compared as a whole.
    const look = `${bytes.length}:${Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1')}`
    const alike = this.#byLook.get(look) ?? []
    let found = alike.find((each) => each.bytes === bytes || Buffer.compare(each.bytes, bytes) === 0)
    if (found === undefined) {
      found = { bytes, offset: this.#sizeBytes }
      this.#byLook.set(look, [...alike, found])
      this.#kept.push(found)
      this.#sizeBytes += aligned(bytes.length)
    }
    return found.offset
  }

  fill(memory: Uint8Array): void {
    for (const { bytes, offset } of this.#kept) memory.set(bytes, offset)
  }
}
