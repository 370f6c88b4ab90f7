import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { loadOnnx } from '@uaccel/inference'
import { isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { countMismatches } from './classify.js'
import { drawDigits } from './draw.js'
import { decodeDigits, decodeIdx, encodeIdx } from './idx.js'
import { splitDigits } from './train/dataset.js'
import { imageOf } from './train/fit.js'
import { encodeNpy } from './train/npy.js'

// The example runs whole, three times, on machines that may be slow.
t.setTimeout(600_000)

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const file = (name: string) => readFileSync(path(name))
const digits = () => decodeDigits(file('test-images.idx3-ubyte'), file('test-labels.idx1-ubyte'))

t.test('IDX files', async (t) => {
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6)
  const encoded = encodeIdx([2, 3], data)
  t.same([...encoded.subarray(0, 12)], [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])
  t.same(decodeIdx(encoded, 2), { shape: [2, 3], data })
  for (let length = 0; length < encoded.length; length++) {
    t.throws(() => decodeIdx(encoded.subarray(0, length), 2), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  }
  t.throws(() => decodeIdx(encoded, 3), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => decodeDigits(encodeIdx([2, 1, 1], Uint8Array.of(1, 2)), encodeIdx([1], Uint8Array.of(3))), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: '2 images come with 1 labels',
  })
})

t.test(
  'the held-out digits are what the split leaves out, 160 of each, and none was trained on',
  async (t) => {
    const { training, test } = splitDigits(160, 2022)
    const held = digits()
    t.equal(held.count, 1600)
    t.ok(Buffer.from(held.pixels).equals(test.pixels), 'pixels')
    t.same([...held.labels], [...test.labels])
    for (let digit = 0; digit < 10; digit++)
      t.equal(held.labels.filter((label) => label === digit).length, 160)
    const image = (pixels: Uint8Array, i: number) =>
      Buffer.from(pixels.subarray(i * 784, (i + 1) * 784)).toString('latin1')
    const trained = new Set(Array.from({ length: training.count }, (_, i) => image(training.pixels, i)))
    t.equal(trained.size, training.count)
    const leaked = Array.from({ length: held.count }, (_, i) => trained.has(image(held.pixels, i)))
    t.notOk(leaked.includes(true))
  },
)

t.test('the digit for the command line is the first of the held-out ones', async (t) => {
  const image = new Float32Array(784)
  imageOf(digits(), 0, image)
  t.ok(encodeNpy([1, 1, 28, 28], image).equals(file('digit.npy')))
  t.equal(digits().labels[0], 6)
})

t.test('the model cut off anywhere is a corrupt model', async (t) => {
  const model = file('digits.onnx')
  for (let length = 0; length < model.length; length++) {
    try {
      loadOnnx(model.subarray(0, length))
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_CORRUPT_MODEL')) continue
      t.fail(`${length} bytes: ${error}`)
    }
    t.fail(`${length} of ${model.length} bytes were accepted`)
  }
  t.pass(`${model.length} lengths`)
})

t.test('the model uses the operators that the example is about', async (t) => {
  const { nodes } = loadOnnx(file('digits.onnx'))
  t.same(
    nodes.map(({ op }) => op),
    [
      'QuantizeLinear',
      'QLinearConv',
      'MaxPool',
      'QLinearConv',
      'MaxPool',
      'QLinearConv',
      'Reshape',
      'QLinearMatMul',
      'DequantizeLinear',
    ],
  )
})

t.test('a result that differs in one bit is a mismatch', async (t) => {
  const model = loadOnnx(file('digits.onnx'))
  const { pixels, labels, ...rest } = digits()
  const two = { ...rest, count: 2, pixels: pixels.subarray(0, 2 * 784), labels: labels.subarray(0, 2) }
  t.equal(
    countMismatches(model, two, [new Float32Array(10), new Float32Array(10)], () => {}),
    2,
  )
})

t.test('digits are drawn within the width', async (t) => {
  const pictures = [0, 1, 2, 3, 4].map((index) => ({ index, caption: `read as ${index}` }))
  const plain = drawDigits(digits(), pictures, { width: 80, colour: false })
  t.notMatch(plain, '\x1b')
  t.ok(plain.split('\n').every((line) => line.length <= 80))
  t.match(plain, /read as 0 +read as 1 +read as 2$/)
  t.match(drawDigits(digits(), pictures, { width: 80, colour: true }), '\x1b[38;5;')
})

t.test('--json prints one object with what was measured, --help and wrong usage', async (t) => {
  const main = path('dist/main.js')
  const run = promisify(execFile)
  const { stdout } = await run(process.execPath, [main, '--json'])
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  const summary = JSON.parse(stdout)
  t.same(Object.keys(summary), [
    'device',
    'transport',
    'images',
    'accuracy',
    'mismatches',
    'imagesPerSecond',
    'hostMicrosPerImage',
  ])
  t.match(summary, { device: /^NPU-1 /, transport: 'vfio-user', images: 1600, mismatches: 0 })
  t.ok(summary.accuracy >= 0.97 && summary.accuracy < 1)
  t.ok(summary.imagesPerSecond > 0 && summary.hostMicrosPerImage > 0)
  for (const help of ['--help', '-h']) t.match((await run(process.execPath, [main, help])).stdout, /^Usage/)
  await t.rejects(run(process.execPath, [main, '--wrong']), { code: 2, stdout: '' })
  await t.rejects(run(process.execPath, [main, '--device', 'gpu']), { code: 2, stdout: '' })
  const cpu = JSON.parse((await run(process.execPath, [main, '--device', 'cpu', '--json'])).stdout)
  t.match(cpu, { device: 'CPU', transport: 'none', accuracy: summary.accuracy, mismatches: 0 })
})

t.test(
  'when the process of the model is killed, the example ends with the reason and leaves nothing',
  async (t) => {
    // Not t.testdir(): a socket's path may have 107 bytes.
    const folder = mkdtempSync(join(tmpdir(), 'uaccel-test-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const child = spawn(process.execPath, [path('dist/main.js'), '--json'], {
      env: { ...process.env, TMPDIR: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [stdout, stderr] = [child.stdout, child.stderr].map((stream) => text(stream))
    const exited = once(child, 'exit')
    const served = () => readdirSync(folder).some((name) => existsSync(join(folder, name, 'npu.sock')))
    const children = () =>
      readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ')
    while (child.exitCode === null && !served()) await sleep(20)
    await sleep(300)
    const [model] = children().map(Number)
    process.kill(model, 'SIGKILL')
    const [code] = await exited
    t.equal(code, 1)
    t.equal(await stdout, '')
    t.match(await stderr, /^ERR_ACCEL_/)
    t.same(readdirSync(folder), [])
  },
)
