import t from 'tap'
import { no, type Options, of, on, opts, outcomes, rules, type Shape } from './rules.test.helper.js'

/* What the steps of convolutions, pools, products of matrices and normalisations say of shapes and numbers. What limits say of types and ranks is in validation.test.ts. */

const image = [1, 4, 5, 6]
const large = 2 ** 31 - 1

const conv = (input: Shape, filter: Shape, options: Options = {}) => opts([input, filter], options)
rules(
  'conv2d',
  [conv(image, [2, 4, 3, 3]), [1, 2, 3, 4]],
  [conv(image, [2, 4, 3, 3], { padding: [1, 1, 1, 1] }), [1, 2, 5, 6]],
  [conv(image, [2, 4, 3, 3], { padding: [0, 1, 2, 3], strides: [2, 3] }), [1, 2, 2, 3]],
  [conv(image, [2, 4, 3, 3], { dilations: [2, 2] }), [1, 2, 1, 2]],
  [conv(image, [4, 1, 3, 3], { groups: 4 }), [1, 4, 3, 4]],
  [conv(image, [6, 2, 1, 1], { groups: 2, bias: of(6) }), [1, 6, 5, 6]],
  [conv([1, 5, 6, 4], [2, 4, 3, 3], { inputLayout: 'nhwc' }), [1, 3, 4, 2]],
  [conv(image, [3, 2, 4, 7], { filterLayout: 'hwio' }), [1, 7, 3, 5]],
  [conv(image, [7, 3, 2, 4], { filterLayout: 'ohwi' }), [1, 7, 3, 5]],
  [conv(image, [4, 3, 2, 7], { filterLayout: 'ihwo' }), [1, 7, 3, 5]],
  [conv(image, [2, 3, 3, 3]), no],
  [conv(image, [2, 4, 6, 3]), no],
  [conv(image, [2, 4, 3, 3], { dilations: [3, 1] }), no],
  [conv(image, [2, 4, 3, 3], { bias: of(1) }), no],
  [conv(image, [2, 4, 3, 3], { bias: of(4) }), no],
  [conv(image, [3, 2, 3, 3], { groups: 2 }), no],
  [conv(image, [2, 4, 3, 3], { groups: 0 }), no],
  [conv(image, [3, 1, 3, 3], { groups: 3 }), no],
  [conv(image, [2, 4, 3, 3], { padding: [large, large, 0, 0] }), no],
)
rules(
  'convTranspose2d',
  [conv(image, [4, 2, 3, 3]), [1, 2, 7, 8]],
  [conv(image, [4, 2, 3, 3], { strides: [2, 3] }), [1, 2, 11, 18]],
  [conv(image, [4, 2, 3, 3], { strides: [2, 3], outputPadding: [1, 2] }), [1, 2, 12, 20]],
  [conv(image, [4, 2, 3, 3], { strides: [2, 3], outputSizes: [12, 20] }), [1, 2, 12, 20]],
  [conv(image, [4, 2, 3, 3], { outputSizes: [7, 8], outputPadding: [9, 9] }), [1, 2, 7, 8]],
  [conv(image, [4, 2, 3, 3], { padding: [1, 1, 0, 2], dilations: [2, 1] }), [1, 2, 7, 6]],
  [conv(image, [4, 2, 3, 3], { groups: 2, bias: of(4) }), [1, 4, 7, 8]],
  [conv(image, [4, 1, 3, 3], { groups: 3 }), [1, 3, 7, 8]],
  [conv([1, 5, 6, 4], [2, 2, 3, 4], { inputLayout: 'nhwc', filterLayout: 'hwoi' }), [1, 6, 7, 3]],
  [conv(image, [3, 2, 2, 4], { filterLayout: 'ohwi' }), [1, 3, 6, 7]],
  [conv(image, [3, 2, 3, 3]), no],
  [conv(image, [4, 2, 3, 3], { outputPadding: [1, 0] }), no],
  [conv(image, [4, 2, 3, 3], { strides: [2, 2], outputPadding: [0, 2] }), no],
  [conv(image, [4, 2, 3, 3], { strides: [2, 3], outputSizes: [13, 20] }), no],
  [conv(image, [4, 2, 3, 3], { strides: [2, 3], outputSizes: [10, 20] }), no],
  [conv(image, [4, 2, 3, 3], { outputSizes: [7] }), no],
  [conv(image, [4, 2, 3, 3], { outputPadding: [0, 0, 0] }), no],
  [conv(image, [4, 2, 3, 3], { groups: 0 }), no],
  [conv(image, [4, 2, 3, 3], { groups: 2, bias: of(2) }), no],
  [conv(image, [4, 2, 3, 3], { padding: [4, 4, 0, 0] }), no],
  [conv(image, [4, 2, 3, 3], { groups: 2 ** 31 }), no],
)
for (const [operator, filter] of [
  ['conv2d', [2, 4, 3, 3]],
  ['convTranspose2d', [4, 2, 3, 3]],
] as const)
  rules(
    operator,
    ...[
      { padding: [1, 1] },
      { strides: [1] },
      { strides: [1, 0] },
      { strides: [] },
      { dilations: [1, 1, 1] },
      { dilations: [0, 1] },
    ].map((options) => [conv(image, filter, options), no] as const),
  )
rules(
  'gemm',
  [on([2, 3], [3, 4]), [2, 4]],
  [
    opts(
      [
        [3, 2],
        [4, 3],
      ],
      { aTranspose: true, bTranspose: true },
    ),
    [2, 4],
  ],
  ...[of(), of(1), of(4), of(2, 1), of(2, 4)].map(
    (c) =>
      [
        opts(
          [
            [2, 3],
            [3, 4],
          ],
          { c },
        ),
        [2, 4],
      ] as const,
  ),
  ...[of(2), of(3, 4), of(1, 2)].map(
    (c) =>
      [
        opts(
          [
            [2, 3],
            [3, 4],
          ],
          { c },
        ),
        no,
      ] as const,
  ),
  [on([2, 3], [4, 3]), no],
  [
    opts(
      [
        [2, 3],
        [3, 4],
      ],
      { aTranspose: true },
    ),
    no,
  ],
  [
    opts(
      [
        [2, 3],
        [3, 4],
      ],
      { bTranspose: true },
    ),
    no,
  ],
)
rules(
  'matmul',
  [on([2, 3], [3, 4]), [2, 4]],
  [on([5, 2, 3], [3, 4]), [5, 2, 4]],
  [on([5, 1, 2, 3], [6, 3, 4]), [5, 6, 2, 4]],
  [on([2, 3], [2, 3]), no],
  [on([5, 2, 3], [6, 3, 4]), no],
)
const window = { windowDimensions: [2, 3] }
rules(
  'averagePool2d l2Pool2d maxPool2d',
  [on(image), [1, 4, 1, 1]],
  [opts([image], { layout: 'nhwc' }), [1, 1, 1, 6]],
  [opts([image], window), [1, 4, 4, 4]],
  [opts([image], { ...window, padding: [1, 0, 1, 1], dilations: [2, 2] }), [1, 4, 4, 4]],
  [opts([image], { ...window, strides: [2, 2] }), [1, 4, 2, 2]],
  [opts([image], { ...window, strides: [2, 2], outputShapeRounding: 'ceil' }), [1, 4, 3, 3]],
  [opts([image], { ...window, strides: [2, 2], outputSizes: [3, 3] }), [1, 4, 3, 3]],
  [opts([image], { ...window, strides: [2, 2], outputSizes: [2, 2] }), [1, 4, 2, 2]],
  [opts([image], { ...window, strides: [2, 2], outputSizes: [2, 3] }), no],
  [opts([image], { ...window, strides: [2, 2], outputSizes: [4, 4] }), no],
  ...[
    { windowDimensions: [2] },
    { windowDimensions: [2, 0] },
    { windowDimensions: [6, 1] },
    { padding: [1, 1] },
    { strides: [1] },
    { strides: [0, 1] },
    { dilations: [1] },
    { dilations: [1, 0] },
    { ...window, outputSizes: [4] },
    { ...window, outputSizes: [4, 4, 1] },
    { ...window, outputSizes: [0, 4] },
  ].map((options) => [opts([image], options), no] as const),
)
rules(
  'resample2d',
  [on(image), image],
  [opts([image], { scales: [2, 0.5] }), [1, 4, 10, 3]],
  [opts([image], { sizes: [3, 9] }), [1, 4, 3, 9]],
  [opts([image], { sizes: [3, 9], scales: [7, 7] }), [1, 4, 3, 9]],
  [opts([image], { sizes: [3, 9], axes: [1, 2] }), [1, 3, 9, 6]],
  [opts([image], { sizes: [3, 9], axes: [3, 0] }), [9, 4, 5, 3]],
  ...[
    { scales: [2] },
    { scales: [2, 2, 2] },
    { scales: [0, 1] },
    { scales: [-1, 1] },
    { scales: [0.1, 1] },
    { scales: [2 ** 30, 1] },
    { sizes: [1] },
    { sizes: [1, 2, 3] },
    { sizes: [0, 1] },
    { sizes: [2 ** 31, 1] },
    { axes: [2] },
    { axes: [2, 2] },
    { axes: [3, 4] },
  ].map((options) => [opts([image], options), no] as const),
)

rules(
  'batchNormalization',
  [on([2, 3], [3], [3]), [2, 3]],
  [opts([[2, 3], [2], [2]], { axis: 0 }), [2, 3]],
  [opts([[2, 3], [3], [3]], { scale: of(3), bias: of(3) }), [2, 3]],
  [on([2, 3], [2], [3]), no],
  [on([2, 3], [3], [2]), no],
  [on([2, 3], [1], [1]), no],
  [on([2], [2], [2]), no],
  [opts([[2], [2], [2]], { axis: 0 }), [2]],
  [opts([[2, 3], [3], [3]], { axis: 2 }), no],
  [opts([[2, 3], [3], [3]], { scale: of(2) }), no],
  [opts([[2, 3], [3], [3]], { bias: of(1) }), no],
)

rules(
  'instanceNormalization',
  [opts([image], { scale: of(4), bias: of(4) }), image],
  [opts([image], { scale: of(6), layout: 'nhwc' }), image],
  [opts([image], { scale: of(6) }), no],
  [opts([image], { bias: of(4), layout: 'nhwc' }), no],
)

rules(
  'layerNormalization',
  [on([]), []],
  [on([3]), [3]],
  [opts([[2, 3, 4]], { scale: of(3, 4), bias: of(3, 4) }), [2, 3, 4]],
  [opts([[2, 3, 4]], { axes: [2, 0], scale: of(4, 2) }), [2, 3, 4]],
  [opts([[2, 3, 4]], { axes: [], scale: of() }), [2, 3, 4]],
  [opts([[2, 3, 4]], { axes: [2, 0], scale: of(2, 4) }), no],
  [opts([[2, 3, 4]], { scale: of(4) }), no],
  [opts([[2, 3, 4]], { bias: of(4, 3) }), no],
  [opts([[2, 3, 4]], { axes: [1, 1] }), no],
  [opts([[2, 3, 4]], { axes: [3] }), no],
)

t.test('calls', async (t) => {
  for (const { what, wrong } of outcomes()) t.equal(wrong, undefined, what)
})
