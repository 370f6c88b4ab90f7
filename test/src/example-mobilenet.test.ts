import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatReport, mobilenet, type Summary } from '@uaccel/example-mobilenet'
import { loadOnnx } from '@uaccel/inference'
import t, { type Test } from 'tap'
import { runExample } from './example.js'
import { onnxruntime } from './onnxruntime.js'

// The example runs whole, several times, on machines that may be slow.
t.setTimeout(300_000)

/** Pixels of a side; the figures of the README are those of 224 and width 1. */
const size = process.env.UACCEL_MOBILENET_SIZE ?? '64'
const width = process.env.UACCEL_MOBILENET_WIDTH ?? '0.35'
const network = ['--json', '--repeat', '1', '--size', size, '--width', width]

async function summaryOf(t: Test, args: readonly string[]): Promise<Summary> {
  const { code, stdout, stderr } = await runExample('mobilenet', args)
  t.equal(code, 0, stderr)
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  return JSON.parse(stdout)
}

/** How many layers there are of each operator. */
const countOf = ({ layers }: Summary) => {
  const counts: Record<string, number> = {}
  for (const { operators } of layers) counts[operators] = (counts[operators] ?? 0) + 1
  return counts
}

t.test('float32 on an NPU in another process: each layer is that of onnxruntime', async (t) => {
  onnxruntime()
  const file = join(t.testdir(), 'mobilenet.onnx')
  const summary = await summaryOf(t, [...network, '--output', file])
  t.match(summary, {
    ...{ device: /^NPU-1 .*emulated/, transport: 'vfio-user', type: 'float32' },
    ...{ doorbells: 1, compared: true, mismatches: 0, tolerance: 1e-4 },
  })
  t.same(countOf(summary), {
    Conv: 52,
    Clip: 35,
    Add: 10,
    GlobalAveragePool: 1,
    Flatten: 1,
    Gemm: 1,
    Softmax: 1,
  })
  t.ok(summary.commands < 70, `${summary.commands} commands: ReLU6 and the ways around are fused`)
  for (const { name, place, difference, reasons } of summary.layers) {
    t.equal(place, 'device', `${name}: ${reasons}`)
    t.ok(difference! <= 1e-4, `${name} differs by ${difference}`)
  }
  t.ok(summary.millis > 0 && summary.onnxRuntimeMillis! > 0)
  const alone = summary.layers.map(({ difference, ...layer }) => layer)
  t.match(formatReport({ ...summary, layers: alone, compared: false }), 'not compared with onnxruntime-node')
  const saved = loadOnnx(readFileSync(file))
  t.same(saved.nodes.length, 101)
  t.same(saved.outputs, [{ name: 'softmax', dtype: 'float32', shape: [1, 1000] }])
})

t.test('int8: convolutions and products are equal bit for bit', async (t) => {
  onnxruntime()
  const summary = await summaryOf(t, [...network, '--type', 'int8'])
  t.match(summary, { type: 'int8', doorbells: 1, compared: true, mismatches: 0 })
  t.same(countOf(summary), {
    ...{ QuantizeLinear: 1, 'Conv, Clip': 35, Conv: 17, Add: 10 },
    ...{ GlobalAveragePool: 1, Flatten: 1, Gemm: 1, Softmax: 1 },
  })
  t.ok(summary.commands <= 67, `${summary.commands} commands: each pattern is one operator of integers`)
  for (const { name, operators, dtype, place, difference } of summary.layers) {
    t.equal(place, 'device', name)
    const most = dtype === 'float32' ? 1e-4 : /Add|Pool/.test(operators) ? 1 : 0
    t.ok(difference! <= most, `${name} differs by ${difference}`)
  }
})

t.test('on the CPU, as a table; wrong usage', async (t) => {
  const cpu = await runExample('mobilenet', ['--device', 'cpu', '--size', '32', '--repeat', '1'])
  t.equal(cpu.code, 0, cpu.stderr)
  t.match(cpu.stdout, /layers {5}0 on the device, 101 on the CPU, 0 free/)
  t.match(cpu.stdout, /0 of 101 layers differ/)
  t.match((await runExample('mobilenet', ['--help'])).stdout, /^Usage/)
  for (const wrong of [['--wrong'], ['--size', '33'], ['--type', 'int4']])
    t.match(await runExample('mobilenet', wrong), { code: 2, stdout: '', stderr: /Usage/ }, wrong.join(' '))
})

t.test('the network is that of the paper', async (t) => {
  const { nodes, constants } = mobilenet({ size: 224, width: 1, seed: 1 })
  const weights = [...constants.values()].reduce((sum, { data }) => sum + data.length, 0)
  // Table 4 of the paper: 3.4 million. Biases stand for the scales and shifts of normalisations, of which there are twice as many.
  t.equal(weights, 3_487_818)
  const strides = nodes.filter(({ attributes }) => (attributes.get('strides') as number[])?.[0] === 2)
  t.same(
    strides.map(({ name }) => name),
    ['stem', 'block2.depthwise', 'block4.depthwise', 'block7.depthwise', 'block14.depthwise'],
  )
})
