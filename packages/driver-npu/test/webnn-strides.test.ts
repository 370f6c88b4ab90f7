import fc from 'fast-check'
import t from 'tap'
import { broadcastStrides, coalesce, denseStrides } from '../src/webnn/strides.js'

/** The offsets of all operands, in the order in which they are gone through. */
function walk(
  lanes: readonly { readonly size: number; readonly strides: readonly number[] }[],
  operands: number,
): string[] {
  let places: number[][] = [new Array<number>(operands).fill(0)]
  for (const { size, strides } of lanes)
    places = places.flatMap((place) =>
      Array.from({ length: size }, (_, i) => place.map((at, operand) => at + i * strides[operand]!)),
    )
  return places.map((place) => place.join())
}

t.test('strides of dense tensors, and of those that are broadcast', (t) => {
  t.strictSame(denseStrides([2, 3, 4]), [12, 4, 1])
  t.strictSame(denseStrides([]), [])
  t.strictSame(broadcastStrides([3, 1], [2, 3, 4]), [0, 1, 0])
  t.strictSame(broadcastStrides([], [2, 3]), [0, 0])
  t.end()
})

t.test('dimensions that were joined are gone through as before', (t) => {
  const lane = fc.record({
    size: fc.integer({ min: 1, max: 4 }),
    strides: fc.tuple(fc.integer({ min: -3, max: 6 }), fc.constantFrom(0, 1, 4)),
    fixed: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(lane, { maxLength: 5 }), fc.nat({ max: 5 }), (lanes, some) => {
      const inner = Math.min(some, lanes.length)
      const found = coalesce(lanes, inner)
      t.strictSame(walk(found.lanes, 2), walk(lanes, 2))
      t.equal(
        found.lanes.slice(0, found.lanes.length - found.inner).reduce((all, { size }) => all * size, 1),
        lanes.slice(0, lanes.length - inner).reduce((all, { size }) => all * size, 1),
      )
      for (const [at, { fixed }] of lanes.entries())
        if (fixed) t.strictSame(found.lanes.find(({ was }) => was === at)?.size, lanes[at]!.size)
    }),
    { numRuns: 200 },
  )
  t.end()
})

t.test('what is dense for all operands becomes one dimension, and a channel stays', (t) => {
  const shape = [2, 3, 4, 5]
  const lanes = (operands: readonly (readonly number[])[]) =>
    shape.map((size, at) => ({ size, strides: operands.map((strides) => strides[at]!), fixed: false }))
  const dense = denseStrides(shape)
  t.strictSame(
    coalesce(lanes([dense, dense]), 0).lanes.map(({ size }) => size),
    [120],
  )
  const channel = broadcastStrides([3, 1, 1], shape)
  t.strictSame(
    coalesce(lanes([dense, channel]), 0).lanes.map(({ size }) => size),
    [2, 3, 20],
  )
  t.strictSame(coalesce(lanes([dense]), 2), {
    lanes: [
      { size: 6, strides: [20], fixed: false, was: 1 },
      { size: 20, strides: [1], fixed: false, was: 3 },
    ],
    inner: 1,
  })
  t.end()
})
