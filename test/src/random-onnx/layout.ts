import { tensor } from '@uaccel/inference'
import { narrower } from './elementwise.js'
import { count, type Live, type Maker, type Step, tensorOf } from './maker.js'

/* Elements are moved, and not computed: all of it is exact, of any type. */

const anything = () => true
const atLeast = (rank: number) => (x: Live) => x.shape.length >= rank
const axisOf = (m: Maker, x: Live) => m.int(0, x.shape.length - 1)
/** An axis as a model may write it. */
const written = (m: Maker, axis: number, rank: number) => (m.chance(0.3) ? axis - rank : axis)

/** As `x` with another shape. */
const reshaped = (x: Live, shape: readonly number[]) => ({ ...x, shape })

/** A shape of as many elements. */
function regrouped(m: Maker, shape: readonly number[]): number[] {
  const factors = m.shuffled(shape.flatMap((size) => primes(size)))
  const made = Array.from({ length: m.int(1, 4) }, () => 1)
  for (const factor of factors) made[m.int(0, made.length - 1)]! *= factor
  return made
}

const primes = (size: number): number[] => {
  for (let by = 2; by * by <= size; by++) if (size % by === 0) return [by, ...primes(size / by)]
  return size > 1 ? [size] : []
}

function transpose(m: Maker): void {
  const x = m.find(anything)
  const perm = m.shuffled(x.shape.map((_, at) => at))
  const given = m.chance(0.8)
  const order = given ? perm : x.shape.map((_, at) => x.shape.length - 1 - at)
  const shape = order.map((at) => x.shape[at]!)
  m.node('Transpose', [x], reshaped(x, shape), given && perm.length > 0 ? { perm } : {})
}

function reshape(m: Maker): void {
  const x = m.find(anything)
  const shape = regrouped(m, x.shape)
  const wanted = [...shape]
  // 0 is the dimension as it was, -1 what is left.
  shape.forEach((size, at) => {
    if (size === x.shape[at] && m.chance(0.3)) wanted[at] = 0
  })
  if (m.chance(0.4)) wanted[m.int(0, shape.length - 1)] = -1
  m.node('Reshape', [x, m.ints(wanted)], reshaped(x, shape))
}

/** The shape is computed from that of the value: it is known when the graph is built. */
function reshapeByShape(m: Maker): void {
  const x = m.find(atLeast(1))
  const whole = { type: 'int64', bound: 100, error: 0 } as const
  const first = m.opset >= 15 && m.chance(0.5)
  const shape = m.hidden(
    'Shape',
    [x],
    { ...whole, shape: [first ? 1 : x.shape.length] },
    first ? { end: 1 } : {},
  )
  const size = first ? shape : m.hidden('Gather', [shape, m.ints([0])], { ...whole, shape: [1] })
  const wanted = m.hidden('Concat', [size, m.ints([-1])], { ...whole, shape: [2] }, { axis: 0 })
  m.node('Reshape', [x, wanted], reshaped(x, [x.shape[0]!, count(x.shape.slice(1))]))
}

function sized(m: Maker): void {
  const x = m.float()
  const size = m.hidden('Size', [x], { type: 'int64', shape: [], bound: 4000, error: 0 })
  const total = m.hidden('Cast', [size], { shape: [], bound: 4000 / 1e3, error: 0 }, { to: 1 })
  m.node('Div', [x, total], x)
}

function slice(m: Maker): void {
  const x = m.find(atLeast(1))
  const axes = m.shuffled(x.shape.map((_, at) => at)).slice(0, m.int(1, 2))
  const shape = [...x.shape]
  const [starts, ends, steps]: number[][] = [[], [], []]
  for (const axis of axes) {
    const size = x.shape[axis]!
    const [start, back, step] = [m.int(0, size - 1), m.chance(0.3), m.int(1, 2)]
    starts!.push(m.chance(0.3) ? start - size : start)
    // Beyond the end is the end.
    ends!.push(back ? -size - 1 : m.pick([size, 2 ** 31]))
    steps!.push(back ? -step : step)
    shape[axis] = Math.ceil((back ? start + 1 : size - start) / step)
  }
  const lists = [starts, ends, axes.map((axis) => written(m, axis, x.shape.length)), steps]
  m.node('Slice', [x, ...lists.map((list) => m.ints(list!))], reshaped(x, shape))
}

function split(m: Maker): void {
  const x = m.find((x) => x.shape.some((size) => size > 1))
  const axis = m.pick(x.shape.flatMap((size, at) => (size > 1 ? [at] : [])))
  const size = x.shape[axis]!
  const like = (part: number) => reshaped(x, x.shape.with(axis, part))
  const attributes = { axis: written(m, axis, x.shape.length) }
  const first = m.int(1, size - 1)
  if (m.chance(0.5)) {
    m.nodeOf('Split', [x, m.ints([first, size - first])], [like(first), like(size - first)], attributes)
    return
  }
  const each = Math.ceil(size / 2)
  m.want(m.opset >= 18 || size % 2 === 0)
  const more = m.opset >= 18 ? { ...attributes, num_outputs: 2 } : attributes
  m.nodeOf('Split', [x], [like(each), like(size - each)], more)
}

function concat(m: Maker): void {
  const x = m.find(atLeast(1))
  const axis = axisOf(m, x)
  const fits = m.live.filter(
    ({ type, shape }) =>
      type === x.type &&
      shape.length === x.shape.length &&
      shape.every((size, at) => at === axis || size === x.shape[at]),
  )
  const all = [x, ...Array.from({ length: m.int(0, 2) }, () => m.pick(fits))]
  const shape = x.shape.with(
    axis,
    all.reduce((sum, each) => sum + each.shape[axis]!, 0),
  )
  const names = all.map(({ name }) => name)
  // One without elements adds nothing.
  if (x.type === 'float32' && m.chance(0.2))
    names.push(m.constant(tensor('float32', x.shape.with(axis, 0), new Float32Array(0))))
  const bound = Math.max(...all.map((each) => each.bound))
  const error = Math.max(...all.map((each) => each.error))
  m.node('Concat', names, { type: x.type, shape, bound, error }, { axis: written(m, axis, x.shape.length) })
}

function pad(m: Maker): void {
  const x = m.find(({ type, shape }) => type !== 'bool' && shape.length > 0)
  const { length } = x.shape
  const mode = m.pick(['constant', 'edge', ...(x.shape.every((size) => size > 1) ? ['reflect'] : [])])
  const some = m.opset >= 18 && m.chance(0.4)
  const axes = some ? [axisOf(m, x)] : x.shape.map((_, at) => at)
  const least = mode === 'constant' && !some ? -1 : 0
  const pads = Array.from({ length: 2 * axes.length }, () => (m.chance(0.2) ? least : m.int(0, 1)))
  const shape = [...x.shape]
  axes.forEach((axis, at) => {
    shape[axis] = shape[axis]! + pads[at]! + pads[at + axes.length]!
    m.want(shape[axis]! > 0 && (length > 0 || least === 0))
  })
  const value = m.chance(0.5) && mode === 'constant' && x.type === 'float32' ? m.scalar(0.75) : ''
  const inputs = some ? [x, m.ints(pads), value, m.ints(axes)] : [x, m.ints(pads), ...(value ? [value] : [])]
  m.node('Pad', inputs, { ...x, shape, bound: Math.max(x.bound, 1) }, { mode })
}

/** Integers within an axis, from either end. */
const indicesOf = (m: Maker, size: number, shape: readonly number[]) =>
  m.whole('int64', shape, -size, size - 1)

function gather(m: Maker): void {
  const x = m.find(atLeast(1))
  const axis = axisOf(m, x)
  const shape = Array.from({ length: m.int(0, 2) }, () => m.int(1, 3))
  const attributes = { axis: written(m, axis, x.shape.length) }
  const indices = indicesOf(m, x.shape[axis]!, shape)
  m.node('Gather', [x, indices], reshaped(x, x.shape.toSpliced(axis, 1, ...shape)), attributes)
}

function gatherElements(m: Maker): void {
  const x = m.find(atLeast(1))
  const axis = axisOf(m, x)
  const shape = x.shape.map((size, at) => (at === axis ? m.int(1, 4) : m.int(1, size)))
  m.node('GatherElements', [x, indicesOf(m, x.shape[axis]!, shape)], reshaped(x, shape), { axis })
}

/** Places in the first dimensions of a value, one row each. */
function rows(m: Maker, x: Live, each: number, depth: number): string {
  const columns = Array.from({ length: each * depth }, (_, at) => m.int(0, x.shape[at % depth]! - 1))
  return m.ints(columns, [each, depth])
}

function gatherNd(m: Maker): void {
  const x = m.find(atLeast(1))
  const [each, depth] = [m.int(1, 3), m.int(1, x.shape.length)]
  m.node('GatherND', [x, rows(m, x, each, depth)], reshaped(x, [each, ...x.shape.slice(depth)]))
}

/** New values, which are as those that they replace. */
const updates = (m: Maker, x: Live, shape: readonly number[]) => {
  const { type } = x
  m.want(type !== 'bool' && type !== 'uint8')
  return type === 'float32' ? m.floats(shape) : m.whole(type as 'int32', shape, -1, 1)
}

function scatterElements(m: Maker): void {
  const x = m.find(atLeast(1))
  const axis = axisOf(m, x)
  const size = x.shape[axis]!
  const each = m.int(1, size)
  const shape = x.shape.map((length, at) => (at === axis ? each : m.int(1, length)))
  // No place is written twice: which of two values stays is not defined.
  const inner = count(shape.slice(axis + 1))
  const order = m.shuffled(Array.from({ length: size }, (_, at) => at))
  const indices = Array.from({ length: count(shape) }, (_, at) => order[Math.floor(at / inner) % each]!)
  const like = { ...x, bound: Math.max(x.bound, 1) }
  m.node('ScatterElements', [x, m.ints(indices, shape), updates(m, x, shape)], like, { axis })
}

function scatterNd(m: Maker): void {
  const x = m.find(atLeast(1))
  const size = x.shape[0]!
  const order = m.shuffled(Array.from({ length: size }, (_, at) => at)).slice(0, m.int(1, size))
  const values = updates(m, x, [order.length, ...x.shape.slice(1)])
  const like = { ...x, bound: Math.max(x.bound, 1) }
  m.node('ScatterND', [x, m.ints(order, [order.length, 1]), values], like)
}

function blocks(m: Maker, toDepth: boolean): void {
  const fits = ({ shape: [, c, h, w] }: Live) => (toDepth ? h! % 2 === 0 && w! % 2 === 0 : c! % 4 === 0)
  const x = m.find((x) => x.type === 'float32' && x.shape.length === 4 && fits(x))
  const [n, c, h, w] = x.shape as [number, number, number, number]
  if (toDepth) m.node('SpaceToDepth', [x], reshaped(x, [n, 4 * c, h / 2, w / 2]), { blocksize: 2 })
  else {
    const mode = m.pick(['DCR', 'CRD'])
    m.node('DepthToSpace', [x], reshaped(x, [n, c / 4, 2 * h, 2 * w]), { blocksize: 2, mode })
  }
}

/** An image whose channels and sides can be shared out into blocks, since few come of themselves. */
function image(m: Maker): void {
  const x = m.float(undefined, ({ shape }) => count(shape) < 500)
  const shape = [1, m.pick([1, 4]), m.pick([2, 4]), m.pick([2, 4])]
  m.node(
    'Expand',
    [m.hidden('ReduceMax', [x], { ...x, shape: [] }, { keepdims: 0 }), m.ints(shape)],
    reshaped(x, shape),
  )
}

function oneHot(m: Maker): void {
  const x = m.find(({ type, shape }) => type === 'int64' && shape.length > 0 && shape.length < 4)
  const depth = m.int(2, 5)
  const held = m.hidden('Clip', [x, m.scalar(-depth, 'int64'), m.scalar(depth - 1, 'int64')], {
    ...x,
    bound: 5,
  })
  const axis = m.int(0, x.shape.length)
  const values = m.constant(tensorOf('float32', [2], [0.25, 2]))
  const shape = x.shape.toSpliced(axis, 0, depth)
  m.node('OneHot', [held, m.scalar(depth, 'int64'), values], { shape, bound: 2, error: 0 }, { axis })
}

function expand(m: Maker): void {
  const x = m.find(({ shape }) => count(shape) < 500)
  const wide = x.shape.map((size) => (size === 1 ? m.int(1, 3) : size))
  const more = Array.from({ length: m.int(0, 1) }, () => m.int(1, 3))
  const shape = [...more, ...wide]
  // A 1 that is wanted keeps what is there.
  const wanted = shape.map((size) => (m.chance(0.2) && size !== 1 ? size : size))
  m.node('Expand', [x, m.ints(wanted)], reshaped(x, shape))
}

/** A constant that the model computes, beside a value. */
const beside =
  (make: (m: Maker, x: Live) => Live): Step =>
  (m) => {
    const x = m.float(undefined, ({ shape }) => shape.length > 0)
    const c = make(m, x)
    m.node('Add', [x, c], { ...x, bound: x.bound + c.bound })
  }

export const layout: readonly Step[] = [
  transpose,
  reshape,
  reshapeByShape,
  sized,
  slice,
  split,
  concat,
  pad,
  gather,
  gatherElements,
  gatherNd,
  scatterElements,
  scatterNd,
  (m) => blocks(m, true),
  (m) => blocks(m, false),
  image,
  oneHot,
  expand,
  (m) => {
    const x = m.find(anything)
    const axis = m.int(0, x.shape.length)
    m.node('Flatten', [x], reshaped(x, [count(x.shape.slice(0, axis)), count(x.shape.slice(axis))]), { axis })
  },
  (m) => {
    const x = m.find(anything)
    const at = m.int(0, x.shape.length)
    m.node(
      'Unsqueeze',
      [x, m.ints([written(m, at, x.shape.length + 1)])],
      reshaped(x, x.shape.toSpliced(at, 0, 1)),
    )
  },
  (m) => {
    const x = m.find(({ shape }) => shape.includes(1))
    const at = x.shape.indexOf(1)
    if (m.chance(0.3))
      m.node(
        'Squeeze',
        [x],
        reshaped(
          x,
          x.shape.filter((size) => size !== 1),
        ),
      )
    else
      m.node('Squeeze', [x, m.ints([written(m, at, x.shape.length)])], reshaped(x, x.shape.toSpliced(at, 1)))
  },
  (m) => {
    const x = m.find(({ type, shape }) => type !== 'bool' && shape.length > 0)
    const times = x.shape.map(() => m.int(1, 2))
    m.node(
      'Tile',
      [x, m.ints(times)],
      reshaped(
        x,
        x.shape.map((size, at) => size * times[at]!),
      ),
    )
  },
  (m) => {
    const x = m.find(({ type, shape }) => (type === 'float32' || type === 'int64') && shape.length > 1)
    const inputs = m.chance(0.7) ? [x, m.scalar(m.int(-2, 2), 'int64')] : [x]
    m.want(m.opset >= 14)
    m.node('Trilu', inputs, x, { upper: m.int(0, 1) })
  },
  beside((m, x) => {
    const shape = narrower(m, x.shape)
    const value = tensorOf('float32', shape, Array.from({ length: count(shape) }, m.random))
    return m.hidden('Constant', [], { shape, bound: 1, error: 0 }, { value })
  }),
  beside((m, x) => {
    const shape = narrower(m, x.shape)
    const value = tensorOf('float32', [1], [0.5])
    return m.hidden('ConstantOfShape', [m.ints(shape)], { shape, bound: 1, error: 0 }, { value })
  }),
  beside((m, x) => {
    const size = x.shape.at(-1)!
    const numbers = [m.scalar(0.5), m.scalar(0.5 + size / 4), m.scalar(0.25)]
    return m.hidden('Range', numbers, { shape: [size], bound: 0.5 + size / 4, error: 0 })
  }),
]
