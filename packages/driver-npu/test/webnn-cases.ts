import type { MLGraphBuilder, MLOperand, MLOperandDataType } from '@uaccel/webnn'

/** A tensor of a case: of the graph's inputs, or a constant; what is not used has to be one. */
export interface Tensor {
  readonly type: MLOperandDataType
  readonly shape: number[]
  readonly data: Uint8Array
  readonly constant: boolean
}

export interface OperatorCase {
  readonly make: (r: Random) => {
    readonly tensors: readonly Tensor[]
    readonly build: Build
  }
  /** How far numbers may be from those of the exact kernel: units in the last place, or so much. */
  readonly ulps?: number
  readonly absolute?: number
  /** Some of it is on the CPU. */
  readonly cpu?: boolean
}
export type Build = (b: MLGraphBuilder, x: readonly MLOperand[]) => MLOperand | readonly MLOperand[]

const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const
type Type = keyof typeof arrays

const product = (sizes: readonly number[]) => sizes.reduce((all, size) => all * size, 1)

/** Random numbers of a seed: the same ones each time. */
export class Random {
  #state: number
  constructor(seed: number) {
    this.#state = seed | 0
  }
  next(): number {
    this.#state = (Math.imul(this.#state ^ (this.#state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0
    const mixed = Math.imul(this.#state ^ (this.#state >>> 13), 0x297a2d39)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
  integer(least: number, greatest: number): number {
    return least + Math.floor(this.next() * (greatest - least + 1))
  }
  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!
  }
  flag(): boolean {
    return this.next() < 0.5
  }
  shape(least = 0, greatest = 4, size = 5): number[] {
    return Array.from({ length: this.integer(least, greatest) }, () => this.integer(1, size))
  }
  /** A shape that is broadcast to another. */
  broadcast(shape: readonly number[]): number[] {
    return shape.slice(this.integer(0, shape.length)).map((size) => (this.next() < 0.3 ? 1 : size))
  }
  shuffled(count: number): number[] {
    const left = Array.from({ length: count }, (_, at) => at)
    return Array.from(left, () => 0).map(() => left.splice(this.integer(0, left.length - 1), 1)[0]!)
  }
  tensor(type: Type, shape: readonly number[], from = -4, to = 4, constant = this.next() < 0.3): Tensor {
    const whole = () => this.integer(Math.ceil(from), Math.floor(to))
    const values = Array.from({ length: product(shape) }, () =>
      type === 'float32' ? from + (to - from) * this.next() : type.endsWith('64') ? BigInt(whole()) : whole(),
    )
    const { buffer } = new arrays[type](values as never)
    return { type, shape: [...shape], data: new Uint8Array(buffer), constant }
  }
}
export const random = (seed: number) => new Random(seed)

const every = ['float32', 'int32', 'uint32', 'int64', 'uint64', 'int8', 'uint8'] as const
const narrow = ['float32', 'int32', 'uint32', 'int8', 'uint8'] as const
const wide = ['float32', 'int32', 'uint32'] as const
const signed = ['float32', 'int32', 'int8'] as const
const float = ['float32'] as const
const least = (type: Type) => (type.startsWith('u') ? 0 : -9)

type Method = keyof MLGraphBuilder
const call = (b: MLGraphBuilder, name: string, ...given: unknown[]) =>
  (b[name as Method] as unknown as (...given: unknown[]) => MLOperand)(...given)

const unary = (
  name: string,
  types: readonly Type[],
  near: Partial<OperatorCase> = {},
  from?: number,
  to = 6,
): OperatorCase => ({
  ...near,
  make: (r) => {
    const type = r.pick(types)
    return {
      tensors: [r.tensor(type, r.shape(), from ?? least(type), to, false)],
      build: (b, [x]) => call(b, name, x),
    }
  },
})

const binary = (
  name: string,
  types: readonly Type[],
  near: Partial<OperatorCase> = {},
  from?: number,
): OperatorCase => ({
  ...near,
  make: (r) => {
    const type = r.pick(types)
    const shape = r.shape()
    const other = r.broadcast(shape)
    const tensors = [shape, other].map((one) => r.tensor(type, one, from ?? least(type), 9))
    if (r.flag()) tensors.reverse()
    if (tensors.every(({ constant }) => constant)) tensors[0] = { ...tensors[0]!, constant: false }
    return { tensors, build: (b, [x, y]) => call(b, name, x, y) }
  },
})

const reduction = (
  name: string,
  types: readonly Type[],
  near: Partial<OperatorCase> = {},
  from?: number,
): OperatorCase => ({
  ...near,
  make: (r) => {
    const type = r.pick(types)
    const shape = r.shape(1)
    const axes = r.shuffled(shape.length).slice(0, r.integer(0, shape.length))
    const keepDimensions = r.flag()
    return {
      tensors: [r.tensor(type, shape, from ?? least(type), 5, false)],
      build: (b, [x]) => call(b, name, x, { axes, keepDimensions }),
    }
  },
})

const argument = (name: string): OperatorCase => ({
  make: (r) => {
    const type = r.pick(narrow)
    const shape = r.shape(1)
    const [axis, keepDimensions, outputDataType] = [
      r.integer(0, shape.length - 1),
      r.flag(),
      r.pick(['int32', 'int64']),
    ]
    const tensor = r.tensor(type, shape, least(type), 5, false)
    if (type === 'float32' && r.flag()) {
      const { buffer, byteOffset, byteLength } = tensor.data
      const floats = new Float32Array(buffer, byteOffset, byteLength / 4)
      const at = r.integer(0, floats.length - 1)
      floats.fill(Number.NaN, at, at + 3)
    }
    return {
      tensors: [tensor],
      build: (b, [x]) => call(b, name, x, axis, { keepDimensions, outputDataType }),
    }
  },
})

const layouts = ['nchw', 'nhwc'] as const
const image = (layout: string, n: number, c: number, h: number, w: number) =>
  layout === 'nchw' ? [n, c, h, w] : [n, h, w, c]
const inLetters = (layout: string, size: Readonly<Record<string, number>>) =>
  Array.from(layout, (letter) => size[letter]!)

const convolution = (transposed: boolean): OperatorCase => ({
  absolute: 1e-4,
  make: (r) => {
    const inputLayout = r.pick(layouts)
    const filterLayout = r.pick(transposed ? ['iohw', 'hwoi', 'ohwi'] : ['oihw', 'hwio', 'ohwi', 'ihwo'])
    const [groups, perGroup, outPerGroup] = [r.integer(1, 3), r.integer(1, 3), r.integer(1, 3)]
    const x = image(inputLayout, r.integer(1, 2), groups * perGroup, r.integer(5, 8), r.integer(5, 8))
    const o = transposed ? outPerGroup : outPerGroup * groups
    const i = transposed ? groups * perGroup : perGroup
    const [h, w] = [r.integer(1, 3), r.integer(1, 3)]
    const strides = [r.integer(1, 2), r.integer(1, 2)]
    const padding = [0, 1, 2, 3].map(() => r.integer(0, 1))
    const options = {
      inputLayout,
      filterLayout,
      groups,
      strides,
      padding,
      dilations: [r.integer(1, 2), r.integer(1, 2)],
    }
    const more = transposed ? { outputPadding: strides.map((stride) => r.integer(0, stride - 1)) } : {}
    const [biased, activated] = [r.flag(), r.flag()]
    return {
      tensors: [
        r.tensor('float32', x, -1, 1, false),
        r.tensor('float32', inLetters(filterLayout, { o, i, h, w }), -1, 1),
        r.tensor('float32', [outPerGroup * groups], -1, 1, biased ? undefined : true),
      ],
      build: (b, [input, filter, bias]) => {
        const found = call(b, transposed ? 'convTranspose2d' : 'conv2d', input, filter, {
          ...options,
          ...more,
          ...(biased ? { bias } : {}),
        })
        return activated ? b.relu(found) : found
      },
    }
  },
})

const pool = (name: string, types: readonly Type[], near: Partial<OperatorCase> = {}): OperatorCase => ({
  ...near,
  make: (r) => {
    const type = r.pick(types)
    const layout = r.pick(layouts)
    const shape = image(layout, r.integer(1, 2), r.integer(1, 3), r.integer(6, 9), r.integer(6, 9))
    const options = {
      layout,
      windowDimensions: [r.integer(2, 3), r.integer(2, 3)],
      strides: [r.integer(1, 2), r.integer(1, 2)],
      dilations: [r.integer(1, 2), r.integer(1, 2)],
      padding: [0, 1, 2, 3].map(() => r.integer(0, 1)),
      outputShapeRounding: r.pick(['floor', 'ceil']),
    }
    return {
      tensors: [r.tensor(type, shape, least(type), 5, false)],
      build: (b, [x]) => call(b, name, x, options),
    }
  },
})

/** Moves elements of any type. */
const moving = (make: (r: Random, shape: readonly number[]) => Build, size = 5): OperatorCase => ({
  make: (r) => {
    const type = r.pick(every)
    const shape = r.shape(1, 4, size)
    return { tensors: [r.tensor(type, shape, least(type), 9, false)], build: make(r, shape) }
  },
})

const indexed = (
  make: (
    r: Random,
    shape: readonly number[],
    axis: number,
  ) => { readonly indices: number[]; readonly updates?: number[]; readonly build: Build },
): OperatorCase => ({
  make: (r) => {
    const type = r.pick(every)
    const shape = r.shape(1)
    const axis = r.integer(0, shape.length - 1)
    const { indices, updates, build } = make(r, shape, axis)
    const indexType = r.pick(['int32', 'uint32', 'int64'] as const)
    return {
      tensors: [
        r.tensor(type, shape, least(type), 9, false),
        r.tensor(indexType, indices, indexType === 'uint32' ? 0 : -6, 6),
        ...(updates ? [r.tensor(type, updates, least(type), 9)] : []),
      ],
      build,
    }
  },
})

const quantized = (name: string): OperatorCase => ({
  ulps: 2,
  make: (r) => {
    const type = r.pick(['int8', 'uint8'] as const)
    const shape = r.shape(0, 3, 6)
    const scale = shape.map((size) => r.pick([1, size, size % 2 === 0 ? size / 2 : 1]))
    return {
      tensors: [
        name === 'quantizeLinear'
          ? r.tensor('float32', shape, -40, 40, false)
          : r.tensor(type, shape, least(type), 90, false),
        r.tensor('float32', scale, 0.1, 2),
        r.tensor(type, scale, least(type), 9),
      ],
      build: (b, [x, by, zero]) => call(b, name, x, by, zero),
    }
  },
})

const LOOSE = { ulps: 4, absolute: 2e-7 }
const SUM = { ulps: 16, absolute: 1e-4 }

/** A case by the name of each operator that the NPU does. */
export const cases: Readonly<Record<string, OperatorCase>> = {
  ...Object.fromEntries(['ceil', 'floor', 'roundEven'].map((name) => [name, unary(name, float)])),
  ...Object.fromEntries(
    [
      'cos',
      'erf',
      'exp',
      'reciprocal',
      'sin',
      'tan',
      'gelu',
      'hardSwish',
      'sigmoid',
      'softplus',
      'softsign',
      'tanh',
      'elu',
      'hardSigmoid',
      'leakyRelu',
      'linear',
    ].map((name) => [name, unary(name, float, { ulps: 8, absolute: 4e-7 })]),
  ),
  log: unary('log', float, LOOSE, 0.01),
  sqrt: unary('sqrt', float, { ulps: 1 }, 0),
  ...Object.fromEntries(['abs', 'neg', 'sign', 'relu'].map((name) => [name, unary(name, signed)])),
  isNaN: unary('isNaN', float),
  isInfinite: unary('isInfinite', float),
  logicalNot: unary('logicalNot', ['uint8'], {}, 0, 1),
  identity: unary('identity', every),
  ...Object.fromEntries(
    ['add', 'sub', 'mul', 'div', 'max', 'min'].map((name) => [name, binary(name, narrow, { ulps: 1 })]),
  ),
  ...Object.fromEntries(
    ['equal', 'notEqual', 'greater', 'greaterOrEqual', 'lesser', 'lesserOrEqual'].map((name) => [
      name,
      binary(name, narrow),
    ]),
  ),
  ...Object.fromEntries(
    ['logicalAnd', 'logicalOr', 'logicalXor'].map((name) => [name, binary(name, ['uint8'])]),
  ),
  pow: binary('pow', float, { ulps: 16 }, 0.1),
  prelu: binary('prelu', signed, { ulps: 1 }),
  clamp: {
    make: (r) => {
      const type = r.pick(narrow)
      const [minValue, maxValue] = [r.integer(least(type), 2), r.integer(2, 9)]
      return {
        tensors: [r.tensor(type, r.shape(), least(type), 20, false)],
        build: (b, [x]) => call(b, 'clamp', x, { minValue, maxValue }),
      }
    },
  },
  where: {
    make: (r) => {
      const type = r.pick(narrow)
      const shape = r.shape()
      return {
        tensors: [
          r.tensor('uint8', r.broadcast(shape), 0, 1, false),
          r.tensor(type, shape, least(type), 9),
          r.tensor(type, r.broadcast(shape), least(type), 9),
        ],
        build: (b, [c, x, y]) => b.where(c!, x!, y!),
      }
    },
  },
  cast: {
    make: (r) => {
      const from = r.pick(every)
      // Between numbers and integers of 64 bits the CPU does it.
      const to = r.pick(from.endsWith('64') ? every.slice(1) : from === 'float32' ? narrow : every)
      const [low, high] = from.endsWith('8') ? [least(from), 120] : [from.startsWith('u') ? 0 : -5e9, 5e9]
      return {
        tensors: [r.tensor(from, r.shape(), low, high, false)],
        build: (b, [x]) => b.cast(x!, to),
      }
    },
  },
  quantizeLinear: quantized('quantizeLinear'),
  dequantizeLinear: quantized('dequantizeLinear'),
  ...Object.fromEntries(
    ['reduceL1', 'reduceSum', 'reduceSumSquare', 'reduceProduct'].map((name) => [
      name,
      reduction(name, wide, { ...SUM, ulps: 64 }),
    ]),
  ),
  ...Object.fromEntries(
    ['reduceL2', 'reduceMean', 'reduceLogSumExp'].map((name) => [name, reduction(name, float, SUM)]),
  ),
  reduceLogSum: reduction('reduceLogSum', float, SUM, 0.1),
  reduceMax: reduction('reduceMax', narrow),
  reduceMin: reduction('reduceMin', narrow),
  argMin: argument('argMin'),
  argMax: argument('argMax'),
  softmax: {
    ...SUM,
    make: (r) => {
      const shape = r.shape(1)
      const axis = r.integer(0, shape.length - 1)
      return { tensors: [r.tensor('float32', shape, -9, 9, false)], build: (b, [x]) => b.softmax(x!, axis) }
    },
  },
  cumulativeSum: {
    ...SUM,
    make: (r) => {
      const type = r.pick(wide)
      const shape = r.shape(1)
      const axis = r.integer(0, shape.length - 1)
      const options = { exclusive: r.flag(), reversed: r.flag() }
      return {
        tensors: [r.tensor(type, shape, least(type), 9, false)],
        build: (b, [x]) => b.cumulativeSum(x!, axis, options),
      }
    },
  },
  transpose: moving((r, shape) => {
    const permutation = r.shuffled(shape.length)
    return (b, [x]) => b.transpose(x!, { permutation })
  }),
  slice: moving((r, shape) => {
    const starts = shape.map((size) => r.integer(0, size - 1))
    const sizes = shape.map((size, at) => r.integer(1, size - starts[at]!))
    const strides = shape.map(() => r.integer(1, 3))
    return (b, [x]) => b.slice(x!, starts, sizes, { strides })
  }),
  split: moving((r, shape) => {
    const axis = r.integer(0, shape.length - 1)
    const size = shape[axis]!
    const first = r.integer(1, size)
    return (b, [x]) => b.split(x!, first === size ? [size] : [first, size - first], { axis })
  }),
  concat: moving((r, shape) => {
    const axis = r.integer(0, shape.length - 1)
    return (b, [x]) => b.concat([x!, b.reverse(x!), x!], axis)
  }),
  reverse: moving((r, shape) => {
    const axes = r.shuffled(shape.length).slice(0, r.integer(0, shape.length))
    return (b, [x]) => b.reverse(x!, { axes })
  }),
  tile: moving((r, shape) => {
    const repetitions = shape.map(() => r.integer(1, 3))
    return (b, [x]) => b.tile(x!, repetitions)
  }),
  expand: {
    make: (r) => {
      const type = r.pick(every)
      const shape = r.shape(1)
      return {
        tensors: [r.tensor(type, r.broadcast(shape), least(type), 9, false)],
        build: (b, [x]) => b.expand(x!, shape),
      }
    },
  },
  ...Object.fromEntries(
    (['constant', 'edge', 'reflection'] as const).map((mode) => [
      `pad, ${mode}`,
      moving((r, shape) => {
        const most = (size: number) => (mode === 'reflection' ? size - 1 : 3)
        const [before, after] = [0, 1].map(() => shape.map((size) => r.integer(0, most(size)))) as [
          number[],
          number[],
        ]
        return (b, [x]) => b.pad(x!, before, after, { mode, value: 3 })
      }),
    ]),
  ),
  triangular: {
    make: (r) => {
      const type = r.pick(narrow)
      const options = { upper: r.flag(), diagonal: r.integer(-3, 3) }
      return {
        tensors: [r.tensor(type, r.shape(2), least(type), 9, false)],
        build: (b, [x]) => b.triangular(x!, options),
      }
    },
  },
  gather: indexed((r, _, axis) => ({
    indices: r.shape(0, 2, 3),
    build: (b, [x, at]) => b.gather(x!, at!, { axis }),
  })),
  gatherElements: indexed((r, shape, axis) => ({
    indices: shape.with(axis, r.integer(1, 4)),
    build: (b, [x, at]) => b.gatherElements(x!, at!, { axis }),
  })),
  gatherND: indexed((r, shape) => ({
    indices: [...r.shape(0, 2, 3), r.integer(1, shape.length)],
    build: (b, [x, at]) => b.gatherND(x!, at!),
  })),
  scatterElements: indexed((r, shape, axis) => {
    const indices = shape.with(axis, r.integer(1, 4))
    return { indices, updates: indices, build: (b, [x, at, y]) => b.scatterElements(x!, at!, y!, { axis }) }
  }),
  scatterND: indexed((r, shape) => {
    const count = r.integer(1, shape.length)
    const lists = r.shape(0, 2, 3)
    return {
      indices: [...lists, count],
      updates: [...lists, ...shape.slice(count)],
      build: (b, [x, at, y]) => b.scatterND(x!, at!, y!),
    }
  }),
  matmul: {
    absolute: 1e-4,
    make: (r) => {
      const batches = r.shape(0, 2, 3)
      const [m, k, n] = [r.integer(1, 9), r.integer(1, 9), r.integer(1, 9)]
      const [one, other] = [batches, r.broadcast(batches)]
      return {
        tensors: [
          r.tensor('float32', [...one, m, k], -1, 1, false),
          r.tensor('float32', [...other, k, n], -1, 1),
        ],
        build: (b, [x, y]) => b.gelu(b.matmul(x!, y!)),
      }
    },
  },
  gemm: {
    absolute: 1e-4,
    make: (r) => {
      const [m, k, n] = [r.integer(1, 9), r.integer(1, 9), r.integer(1, 9)]
      const [aTranspose, bTranspose, added] = [r.flag(), r.flag(), r.flag()]
      const options = { aTranspose, bTranspose, alpha: r.pick([1, 0.5]), beta: r.pick([1, 2]) }
      return {
        tensors: [
          r.tensor('float32', aTranspose ? [k, m] : [m, k], -1, 1, false),
          r.tensor('float32', bTranspose ? [n, k] : [k, n], -1, 1),
          r.tensor('float32', r.broadcast([m, n]), -1, 1, added ? undefined : true),
        ],
        build: (b, [x, y, c]) => b.gemm(x!, y!, { ...options, ...(added ? { c: c! } : {}) }),
      }
    },
  },
  conv2d: convolution(false),
  convTranspose2d: convolution(true),
  averagePool2d: pool('averagePool2d', float, SUM),
  l2Pool2d: pool('l2Pool2d', float, SUM),
  maxPool2d: { ...pool('maxPool2d', narrow), cpu: true },
  batchNormalization: {
    absolute: 1e-4,
    make: (r) => {
      const shape = r.shape(1)
      const axis = r.integer(0, shape.length - 1)
      const [scaled, biased] = [r.flag(), r.flag()]
      const constant = r.flag()
      const one = (from: number, used = true) =>
        r.tensor('float32', [shape[axis]!], from, 2, constant || !used)
      return {
        tensors: [
          r.tensor('float32', shape, -2, 2, false),
          one(-2),
          one(0.1),
          one(-2, scaled),
          one(-2, biased),
        ],
        build: (b, [x, mean, variance, scale, bias]) =>
          b.batchNormalization(x!, mean!, variance!, {
            axis,
            ...(scaled ? { scale: scale! } : {}),
            ...(biased ? { bias: bias! } : {}),
          }),
      }
    },
  },
  instanceNormalization: {
    absolute: 1e-3,
    make: (r) => {
      const layout = r.pick(layouts)
      const channels = r.integer(1, 3)
      const shape = image(layout, r.integer(1, 2), channels, r.integer(2, 4), r.integer(2, 4))
      return {
        tensors: [
          r.tensor('float32', shape, -2, 2, false),
          r.tensor('float32', [channels]),
          r.tensor('float32', [channels]),
        ],
        build: (b, [x, scale, bias]) => b.instanceNormalization(x!, { layout, scale: scale!, bias: bias! }),
      }
    },
  },
  layerNormalization: {
    absolute: 1e-3,
    make: (r) => {
      const shape = r.shape(1)
      const axes = r.shuffled(shape.length).slice(0, r.integer(0, shape.length))
      const own = axes.map((axis) => shape[axis]!)
      const scaled = r.flag()
      return {
        tensors: [
          r.tensor('float32', shape, -2, 2, false),
          r.tensor('float32', own, -2, 2, scaled ? undefined : true),
          r.tensor('float32', own),
        ],
        build: (b, [x, scale, bias]) =>
          b.layerNormalization(x!, {
            axes,
            epsilon: 0.01,
            bias: bias!,
            ...(scaled ? { scale: scale! } : {}),
          }),
      }
    },
  },
  'resample2d, nearest': {
    make: (r) => {
      const type = r.pick(['float32', 'uint8', 'int8'] as const)
      const axes = r.shuffled(4).slice(0, 2)
      const sizes = [r.integer(1, 9), r.integer(1, 9)]
      return {
        tensors: [r.tensor(type, r.shape(4, 4), least(type), 9, false)],
        build: (b, [x]) => b.resample2d(x!, { sizes, axes }),
      }
    },
  },
  'resample2d, linear': {
    absolute: 1e-4,
    make: (r) => {
      const axes = r.shuffled(4).slice(0, 2)
      const shape = r.shape(4, 4)
      const sizes = axes.map((axis) => shape[axis]! * r.integer(1, 5))
      return {
        tensors: [r.tensor('float32', shape, -1, 1, false)],
        build: (b, [x]) => b.relu(b.resample2d(x!, { mode: 'linear', sizes, axes })),
      }
    },
  },
}
