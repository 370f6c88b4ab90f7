import { blocksOf, LANES, multiplyFloats, panelled, ROWS } from '../gemm.js'
import { floats } from '../room.js'
import { convolve } from './convolve.js'
import { Finish } from './finish.js'
import { Packer } from './pack.js'
import type { TensorOperation, TensorParams } from './params.js'
import { Side } from './side.js'

/**
 * `CONTRACT` (docs/devices/npu.md, 9.11) as products of matrices. Of the dimensions of a result those that only A knows are the rows of one
 * matrix, those that only B knows the columns of the other; the rest are a batch of such products, be they images, heads or groups of a
 * convolution. What a window looks at outside of A is packed as 0.
 *
 * It goes block by block: what it takes of memory does not grow with the tensors.
 */
export const contract: TensorOperation = (p, { a, b, c }, d) => {
  if (b === undefined) throw new TypeError('CONTRACT has two inputs')
  if (convolve(p, { a, b, c }, d)) return
  const { blocks, rows, lanes, ks, batch, finish, packersOf } = planOf(p)
  finish.start(c, d)
  packersOf.a.start(a)
  packersOf.b.start(b)

  for (let lane = 0; lane < lanes.count; lane += blocks.lanes) {
    lanes.seek(lane, Math.min(blocks.lanes, lanes.count - lane))
    for (let product = 0; product < batch.count; product++) {
      batch.seek(product, 1)
      for (let row = 0; row < rows.count; row += blocks.rows) {
        rows.seek(row, Math.min(blocks.rows, rows.count - row))
        floats.sums.fill(0, 0, rows.length * panelled(lanes.length))
        for (let k = 0; k < ks.count; k += blocks.k) {
          ks.seek(k, Math.min(blocks.k, ks.count - k))
          packersOf.a.pack()
          packersOf.b.pack()
          multiplyFloats(rows.length, lanes.length, ks.length)
        }
        finish.block(panelled(lanes.length))
      }
    }
  }
  // Memory is not to be kept past an execution.
  finish.release()
  packersOf.a.release()
  packersOf.b.release()
}

/** What of a product is the same whatever its operands hold and wherever they are. */
interface Plan {
  readonly blocks: ReturnType<typeof blocksOf>
  readonly rows: Side
  readonly lanes: Side
  readonly ks: Side
  readonly batch: Side
  readonly finish: Finish
  readonly packersOf: { readonly a: Packer; readonly b: Packer }
}

const plans = new WeakMap<TensorParams, Plan>()

/** One for each block, as it is run again and again: the tables of a small product take longer than the product. */
function planOf(p: TensorParams): Plan {
  const known = plans.get(p)
  if (known !== undefined) return known
  const { onlyA, onlyB, both, inner } = dimensionsOf(p)
  const flip = lanesAreOfB(p, onlyA, onlyB)
  const [rowDimensions, laneDimensions] = flip ? [onlyA, onlyB] : [onlyB, onlyA]
  const counts = [rowDimensions, laneDimensions, inner].map((some) => countOf(p, some))
  const blocks = blocksOf(counts[0], counts[1], counts[2])
  const rows = new Side(p, rowDimensions, blocks.rows)
  const lanes = new Side(p, laneDimensions, blocks.lanes)
  const ks = new Side(p, inner, blocks.k)
  const batch = new Side(p, both, 1)
  const ofRows = (offsets: 'a' | 'b') => new Packer(p, offsets, { batch, side: rows, ks }, floats.rows, ROWS)
  const ofLanes = (offsets: 'a' | 'b') =>
    new Packer(p, offsets, { batch, side: lanes, ks }, floats.lanes, LANES)
  const plan = {
    blocks,
    rows,
    lanes,
    ks,
    batch,
    finish: new Finish(p, { batch, rows, lanes }, blocks.lanes),
    packersOf: flip ? { a: ofRows('a'), b: ofLanes('b') } : { a: ofLanes('a'), b: ofRows('b') },
  }
  plans.set(p, plan)
  return plan
}

const countOf = (p: TensorParams, dimensions: readonly number[]) =>
  dimensions.reduce((product, r) => product * p.dims[r], 1)

function dimensionsOf(p: TensorParams) {
  const all = Array.from({ length: p.rank }, (_, r) => r)
  const outer = all.slice(0, p.rank - p.inner)
  const inA = (r: number) => p.a.strides[r] !== 0 || p.windows.some(({ out }) => out === r)
  const inB = (r: number) => p.b?.strides[r] !== 0
  return {
    onlyA: outer.filter((r) => inA(r) && !inB(r)),
    onlyB: outer.filter((r) => inB(r) && !inA(r)),
    both: outer.filter((r) => inA(r) === inB(r)),
    inner: all.slice(p.rank - p.inner),
  }
}

/** Lanes are the side that fills a vector, and of two such sides the one whose results lie side by side. */
function lanesAreOfB(p: TensorParams, onlyA: readonly number[], onlyB: readonly number[]): boolean {
  if (countOf(p, onlyB) < LANES) return false
  if (countOf(p, onlyA) < LANES) return true
  const step = (dimensions: readonly number[]) =>
    Math.min(...dimensions.filter((r) => p.dims[r] > 1).map((r) => Math.abs(p.d.strides[r])))
  return step(onlyB) <= step(onlyA)
}
