/**
 * `out[r, s] = sum over k of a[r, k] * b[s, k]`, rows of both contiguous, sums wrapping in 32 bits (docs/devices/npu.md, 8.1).
 * Four rows of `a` and two of `b` at once: each number that is loaded is used several times.
 */
export function gemm(
  a: Int16Array,
  aFrom: number,
  rows: number,
  b: Int16Array,
  bFrom: number,
  columns: number,
  k: number,
  out: Int32Array,
): void {
  let r = 0
  for (; r + 4 <= rows; r += 4) {
    const a0 = aFrom + r * k
    const a1 = a0 + k
    const a2 = a1 + k
    const a3 = a2 + k
    const o0 = r * columns
    const o1 = o0 + columns
    const o2 = o1 + columns
    const o3 = o2 + columns
    let s = 0
    for (; s + 2 <= columns; s += 2) {
      const b0 = bFrom + s * k
      const b1 = b0 + k
      let s00 = 0
      let s01 = 0
      let s10 = 0
      let s11 = 0
      let s20 = 0
      let s21 = 0
      let s30 = 0
      let s31 = 0
      for (let i = 0; i < k; i++) {
        const x = b[b0 + i]
        const y = b[b1 + i]
        const w0 = a[a0 + i]
        const w1 = a[a1 + i]
        const w2 = a[a2 + i]
        const w3 = a[a3 + i]
        s00 = (s00 + Math.imul(w0, x)) | 0
        s01 = (s01 + Math.imul(w0, y)) | 0
        s10 = (s10 + Math.imul(w1, x)) | 0
        s11 = (s11 + Math.imul(w1, y)) | 0
        s20 = (s20 + Math.imul(w2, x)) | 0
        s21 = (s21 + Math.imul(w2, y)) | 0
        s30 = (s30 + Math.imul(w3, x)) | 0
        s31 = (s31 + Math.imul(w3, y)) | 0
      }
      out[o0 + s] = s00
      out[o0 + s + 1] = s01
      out[o1 + s] = s10
      out[o1 + s + 1] = s11
      out[o2 + s] = s20
      out[o2 + s + 1] = s21
      out[o3 + s] = s30
      out[o3 + s + 1] = s31
    }
    for (let row = r; row < r + 4; row++)
      dots(a, aFrom + row * k, b, bFrom, s, columns, k, out, row * columns)
  }
  for (; r < rows; r++) dots(a, aFrom + r * k, b, bFrom, 0, columns, k, out, r * columns)
}

/** One row of `a` against rows `from` ... `to - 1` of `b`. */
function dots(
  a: Int16Array,
  aAt: number,
  b: Int16Array,
  bFrom: number,
  from: number,
  to: number,
  k: number,
  out: Int32Array,
  outAt: number,
): void {
  for (let s = from; s < to; s++) {
    const bAt = bFrom + s * k
    let sum = 0
    for (let i = 0; i < k; i++) sum = (sum + Math.imul(a[aAt + i], b[bAt + i])) | 0
    out[outAt + s] = sum
  }
}
