type ViewType<T> = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T

/** Typed arrays over a stretch of DMA memory. Each getter throws `ERR_ACCEL_REVOKED` once the memory was taken back. */
export abstract class MemoryViews {
  readonly sizeBytes: number
  readonly #views = new Map<unknown, unknown>()

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
  }

  /** The bytes, from a multiple of 8 on. Throws once they were taken back. */
  protected abstract bytes(): Uint8Array

  get u8(): Uint8Array {
    return this.bytes()
  }
  get i8(): Int8Array {
    return this.#view(Int8Array, 1)
  }
  get u16(): Uint16Array {
    return this.#view(Uint16Array, 2)
  }
  get i16(): Int16Array {
    return this.#view(Int16Array, 2)
  }
  get u32(): Uint32Array {
    return this.#view(Uint32Array, 4)
  }
  get i32(): Int32Array {
    return this.#view(Int32Array, 4)
  }
  get u64(): BigUint64Array {
    return this.#view(BigUint64Array, 8)
  }
  get f32(): Float32Array {
    return this.#view(Float32Array, 4)
  }
  get f64(): Float64Array {
    return this.#view(Float64Array, 8)
  }

  #view<T>(Type: ViewType<T>, elementBytes: number): T {
    const { buffer, byteOffset } = this.bytes()
    let view = this.#views.get(Type) as T | undefined
    if (view === undefined) {
      view = new Type(buffer, byteOffset, Math.floor(this.sizeBytes / elementBytes))
      this.#views.set(Type, view)
    }
    return view
  }
}
