import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Graph, type GraphNode, saveOnnx, tensor } from '@uaccel/inference'
import t, { type Test } from 'tap'
import { type Ended, start, uaccel } from './uaccel.js'

/** `uaccel infer`: models, files and options as users give them, each run a process of its own. */

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
/** Temporary files of the command itself: nothing may stay there. */
const TMPDIR = join(folder, 'tmp')
mkdirSync(TMPDIR)
/** Nodes of this machine are none of these tests. */
const XDG_RUNTIME_DIR = folder

const options = { cwd: folder, env: { TMPDIR, XDG_RUNTIME_DIR } }
const infer = (...args: string[]) => uaccel(['infer', ...args], options)
const digits = (name: string) => fileURLToPath(new URL(`../../examples/digits/${name}`, import.meta.url))
const file = (name: string, contents: string | Uint8Array) => {
  writeFileSync(join(folder, name), contents)
  return join(folder, name)
}

/** Asserts an error: its exit code, its words and code on stderr, and nothing on stdout. */
function failed(t: Test, { code, stdout, stderr }: Ended, wanted: { code: number; stderr: RegExp }): void {
  t.equal(code, wanted.code, stderr)
  t.match(stderr, wanted.stderr)
  t.equal(stdout, '')
  t.notMatch(stderr, /^ {4}at /m, 'no stack for errors of the table')
}

const node = (op: string, inputs: string[], outputs: string[], attributes = {}): GraphNode => ({
  name: `the ${op}`,
  op,
  domain: '',
  inputs,
  outputs,
  attributes: new Map(Object.entries(attributes)),
})

function model(name: string, graph: Partial<Graph> & Pick<Graph, 'inputs' | 'outputs' | 'nodes'>): string {
  const whole = { name, opsets: new Map([['', 17]]), constants: new Map(), ...graph }
  return file(name, saveOnnx(whole, { name: 'test', version: '1' }))
}

/** Two inputs that share a dimension, and two outputs. */
const sums = model('sums.onnx', {
  inputs: [
    { name: 'a', dtype: 'float32', shape: ['batch', 2] },
    { name: 'b', dtype: 'float32', shape: ['batch', 2] },
  ],
  outputs: [
    { name: 'sum', dtype: 'float32', shape: ['batch', 2] },
    { name: 'product', dtype: 'float32', shape: ['batch', 2] },
  ],
  nodes: [node('Add', ['a', 'b'], ['sum']), node('Mul', ['a', 'b'], ['product'])],
})

t.test('the same on the CPU and on a model of its own, which is taken where nothing is named', async (t) => {
  const on = (...flags: string[]) => infer(digits('digits.onnx'), '--input', digits('digit.npy'), ...flags)
  const cpu = await on('--device', 'cpu')
  t.match(cpu, {
    code: 0,
    stderr:
      /^CPU\n9 nodes of the model are 9 operators: all on the CPU\nthe run took [\d.]+ [mu]?s\nlogits: 6 \(24\.3\), .*\n$/,
  })
  t.equal(cpu.stdout.split('\n').length, 2, 'one line')
  const { logits } = JSON.parse(cpu.stdout)
  t.match(logits, { dtype: 'float32', shape: [1, 10] })
  t.equal(logits.data.indexOf(Math.max(...logits.data)), 6)

  const own = await on()
  t.match(own.stderr, /^No --device, and no node is served: a model of the NPU is started/)
  t.match(own.stderr, /^NPU-1 1\.1\.0, emulated \(vfio-user\)$/m)
  t.match(own.stderr, /: 8 on the NPU, 0 on the CPU, 1 that cost nothing; 1 doorbell, 8 commands, 0 B copied/)
  t.equal(own.stdout, cpu.stdout)

  const repeated = await on('--device', 'model', '--repeat', '20', '--explain')
  t.match(repeated.stderr, /^20 runs: p50 .*, p99 .*, .* inferences\/s; the first took/m)
  t.match(repeated.stderr, /^operator +name +where +moved +time +in device$/m)
  t.match(repeated.stderr, /^quantizedConv2d +conv1 +NPU +[\d.]+ KiB +[\d.]+ [mu]s +[\d.]+ [mu]s$/m)
  t.match(repeated.stderr, /^reshape +features +- +- +-$/m)
  t.equal(repeated.stdout, cpu.stdout)
  t.notMatch(repeated.stderr, '\x1b', 'no bar and no colours without a terminal')
  t.strictSame(readdirSync(TMPDIR), [])
})

t.test('a node that is served, by its name, and where nothing is named', async (t) => {
  const nodes = join(folder, 'uaccel')
  const server = start(['serve', '--model', 'npu', '--folder', nodes], options)
  t.teardown(() => end(server))
  while (!existsSync(join(nodes, 'accel0'))) await sleep(20)
  const given = [digits('digits.onnx'), '-i', digits('digit.npy')]
  const named = await infer(...given, '--device', 'accel0', '--folder', nodes, '--json', '--explain')
  t.equal(named.code, 0, named.stderr)
  const summary = JSON.parse(named.stdout)
  t.match(summary, {
    schema: 'uaccel.infer/1',
    device: /^npu, emulated \(accel0, loopback\)$/,
    nodes: 9,
    operators: { device: 8, cpu: 0, free: 1 },
    totals: { device: 'npu', doorbells: 1, commands: 8, copiedBytes: 0 },
    runs: 1,
    top: { logits: [[{ index: 6 }]] },
    outputs: { logits: { dtype: 'float32', shape: [1, 10] } },
  })
  t.equal(summary.explain.length, 9)
  t.match(summary.explain[1], { operator: 'quantizedConv2d', name: 'conv1', place: 'device', group: 1 })
  // Input, weights with scale and zero point, bias, and the output.
  t.ok(summary.explain[1].movedBytes > 784 + 8 * 784)
  t.ok(summary.explain[1].micros > 0 && summary.explain[1].deviceMicros > 0)
  const found = await infer(...given)
  t.match(found, {
    code: 0,
    stderr: /^No --device: accel0 is taken\.\nnpu, emulated \(accel0, loopback\)\n/,
  })
  failed(t, await infer(...given, '--device', 'accel7', '--folder', nodes), {
    code: 3,
    stderr: /accel7.*ERR_ACCEL_NOT_FOUND/,
  })
})

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill()
  await once(child, 'exit')
}

t.test('several inputs and outputs by name, and dimensions from the files', async (t) => {
  const a = file('a.json', '[[1, 2], [3, 4], [5, 6]]')
  const b = file('b.bin', new Uint8Array(Float32Array.of(10, 20, 30, 40, 50, 60).buffer))
  const run = (...flags: string[]) => infer(sums, '--device', 'cpu', ...flags)
  const both = await run('-i', `a=${a}`, `b=${b}`, '-o', 'sum=sum.npy', 'all.json', 'product=product.bin')
  t.match(both, { code: 0, stdout: '' })
  const all = JSON.parse(readFileSync(join(folder, 'all.json'), 'utf8'))
  t.same(all.sum, { dtype: 'float32', shape: [3, 2], data: [11, 22, 33, 44, 55, 66] })
  t.same(all.product.data, [10, 40, 90, 160, 250, 360])
  const npy = readFileSync(join(folder, 'sum.npy'))
  t.equal(npy.length % 64, 24, 'data begins at a multiple of 64')
  t.match(npy.toString('latin1', 10, 80), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }")
  t.same(
    [...new Float32Array(Uint8Array.from(readFileSync(join(folder, 'product.bin'))).buffer)],
    all.product.data,
  )
  t.match(await run('-i', 'a=sum.npy', '-i', 'b=sum.npy', '--dimension', 'batch=3'), {
    code: 0,
    stdout: /"sum":\{"dtype":"float32","shape":\[3,2\],"data":\[22,/,
  })
  t.match(await run('-i', 'a=sum.npy', '-i', 'b=sum.npy', '--shape', 'a=3,2', '--shape', 'b=3,2'), {
    code: 0,
  })

  for (const [flags, stderr] of [
    [['-i', `a=${a}`], /input b is missing: add --input b=FILE; it takes a, b.*INVALID_ARGUMENT/],
    [['-i', a], /Which input is .*a\.json\? NAME=.*INVALID_ARGUMENT/],
    [['-i', `a=${a}`, `a=${a}`], /input a is given twice.*INVALID_ARGUMENT/],
    [['-i', `a=${a}`, 'frob=x.npy'], /no input frob; it takes a, b.*INVALID_ARGUMENT/],
    [['-i', `a=${a}`, `b=${b}`, '--dimension', 'batch=4'], /dimension batch is 4, and 3 in a.*INVALID_SHAPE/],
    [['-i', `a=${a}`, `b=${b}`, '--dimension', 'frob=4'], /no dimension "frob".*INVALID_ARGUMENT/],
    [['-i', `a=${a}`, `b=${b}`, '--shape', 'a=2,3'], /INVALID_SHAPE/],
    [
      ['-i', `a=${a}`, `b=${file('two.json', '[[1, 2], [3, 4]]')}`],
      /dimension batch is 3, and 2 in b.*INVALID_SHAPE/,
    ],
    [
      ['-i', `a=${a}`, `b=${b}`, '-o', 'y.npy'],
      /outputs sum, product, and y\.npy takes one.*INVALID_ARGUMENT/,
    ],
    [
      ['-i', `a=${a}`, `b=${b}`, '-o', 'frob=y.npy'],
      /no output frob; it computes sum, product.*INVALID_ARGUMENT/,
    ],
    [['-i', `a=${a}`, `b=${b}`, '-o', 'y.txt'], /y\.txt: outputs are written as \.npy.*INVALID_ARGUMENT/],
  ] as const)
    failed(t, await run(...flags), { code: 1, stderr })
  t.notOk(existsSync(join(folder, 'y.npy')))

  const invalid = (stderr: RegExp) => ({ code: 1, stderr })
  const given = ['-i', `a=${a}`, `b=${b}`]
  failed(t, await run(...given, '-o', 'sum.json', './sum.json'), invalid(/two outputs.*INVALID_ARGUMENT/))
  failed(t, await run(...given, '-o', 'a.json'), invalid(/a\.json is read, and would be lost.*INVALID_ARG/))
  t.equal(readFileSync(a, 'utf8'), '[[1, 2], [3, 4], [5, 6]]')
  failed(t, await run(...given, '--shape', 'z=3,2'), invalid(/no input z; it takes a, b.*INVALID_ARGUMENT/))
  mkdirSync(join(folder, `taken.json`))
  const before = readdirSync(folder)
  failed(t, await run(...given, '-o', 'one.json', 'taken.json'), invalid(/it is a folder.*INVALID_ARGUMENT/))
  t.same(readdirSync(folder), before, 'neither of two outputs is written')
})

t.test('JSON that is not as the model wants it', async (t) => {
  const of = (dtype: 'float32' | 'int64', name: string, shape: readonly number[]) =>
    model(name, {
      inputs: [{ name: 'x', dtype, shape }],
      outputs: [{ name: 'y', dtype, shape }],
      nodes: [node('Neg', ['x'], ['y'])],
    })
  const [square, pair] = [of('float32', 'square.onnx', [2, 2]), of('int64', 'pair.onnx', [2])]
  for (const [path, json, stderr] of [
    [square, '[[1,2,3],[4]]', /arrays of several lengths; the model takes float32 \[2,2\].*INVALID_SHAPE/],
    [square, '[1,2,[3,4]]', /arrays of several depths.*INVALID_SHAPE/],
    [square, '[[[1],[2],[3],[4]]]', /the shape \[1,4,1\].*INVALID_SHAPE/],
    [square, '[[1e39,2],[3,4]]', /beyond float32.*INVALID_SHAPE/],
    [square, '[[NaN,2],[3,4]]', /is not JSON: .*INVALID_ARGUMENT/],
    [square, `${'['.repeat(1e5)}${']'.repeat(1e5)}`, /100000 deep: at most 16.*INVALID_ARGUMENT/],
    [square, `[["${'a'.repeat(5000)}",2],[3,4]]`, /holds "a{79}, which is no number.*INVALID_SHAPE/],
    [pair, '[9007199254740993, 1]', /does not hold exactly.*INVALID_SHAPE/],
  ] as const)
    failed(t, await infer(path, '-i', file('wrong.json', json), '--device', 'cpu'), { code: 1, stderr })
})

t.test('sizes that are too large, sizes of images, and names that objects have', async (t) => {
  const relu = (name: string, shape: readonly (number | string)[], x = 'x', y = 'y') =>
    model(name, {
      inputs: [{ name: x, dtype: 'float32', shape }],
      outputs: [{ name: y, dtype: 'float32', shape }],
      nodes: [node('Relu', [x], [y])],
    })
  const dot = file(
    'dot.png',
    Buffer.from(
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
      'base64',
    ),
  )
  for (const size of [30_000, 100_000, 2 ** 40])
    failed(t, await infer(relu('vast.onnx', [1, 3, size, size]), '-i', dot, '--device', 'cpu'), {
      code: 1,
      stderr: /all less than 2 GiB.*INVALID_SHAPE/,
    })
  const open = relu('open.onnx', [1, 3, 'h', 'w'])
  const dimensions = ['--dimension', 'h=2', '--dimension', 'w=4']
  t.match(await infer(open, '-i', dot, '--device', 'cpu', ...dimensions), { code: 0, stdout: /\[1,3,2,4\]/ })
  const strange = relu('strange.onnx', [2], '__proto__', 'constructor')
  const numbers = file('numbers.json', '[1, -1]')
  t.match(await infer(strange, '-i', numbers, '--device', 'cpu'), {
    code: 0,
    stdout: /"data":\[1,0\]/,
    stderr: /^1 node of the model is 1 operator/m,
  })
  const back = relu('back.onnx', [2], 'constructor', '__proto__')
  t.match(await infer(back, '-i', numbers, '--device', 'cpu'), { code: 0, stdout: /"data":\[1,0\]/ })
})

t.test('input that is refused', async (t) => {
  const whole = digits('digits.onnx')
  const bytes = readFileSync(whole)
  const good = digits('digit.npy')
  const nonzero = model('nonzero.onnx', {
    inputs: [{ name: 'x', dtype: 'float32', shape: [1, 4] }],
    outputs: [{ name: 'y', dtype: 'int64', shape: [2, 'n'] }],
    nodes: [node('NonZero', ['x'], ['y'])],
  })
  for (const [path, input, code, stderr] of [
    ['none.onnx', good, 3, /There is no file none\.onnx.*ERR_ACCEL_NOT_FOUND/],
    [whole, 'none.json', 3, /There is no file none\.json.*ERR_ACCEL_NOT_FOUND/],
    [folder, good, 1, /EISDIR.*ERR_ACCEL_INVALID_ARGUMENT/],
    [file('text.onnx', 'not a model'), good, 1, /ERR_ACCEL_CORRUPT_MODEL/],
    [file('cut.onnx', bytes.subarray(0, bytes.length >> 1)), good, 1, /ERR_ACCEL_CORRUPT_MODEL/],
    [nonzero, file('four.json', '[1,2,3,4]'), 1, /the NonZero.*NonZero.*ERR_ACCEL_UNSUPPORTED_OPERATOR/],
    [
      whole,
      file('short.json', '[1, 2]'),
      1,
      /2 numbers; the model takes float32 \[1,1,28,28\].*INVALID_SHAPE/,
    ],
    [whole, file('short.bin', Buffer.alloc(780)), 1, /780 bytes; the model takes .*ERR_ACCEL_INVALID_SHAPE/],
    [whole, file('words.json', '["a"]'), 1, /ERR_ACCEL_INVALID_SHAPE/],
    [whole, file('broken.json', '{'), 1, /is not JSON.*ERR_ACCEL_INVALID_ARGUMENT/],
    [whole, file('broken.npy', '\x93NUMPY'), 1, /ERR_ACCEL_INVALID_ARGUMENT/],
    [whole, file('broken.png', bytes), 1, /signature of a PNG.*ERR_ACCEL_INVALID_ARGUMENT/],
    [whole, `frob=${good}`, 1, /The model has no input frob; it takes image.*ERR_ACCEL_INVALID_ARGUMENT/],
  ] as const)
    failed(t, await infer(path, '--input', input, '--device', 'cpu'), { code, stderr })
  const on = (...flags: string[]) => infer(whole, '-i', good, ...flags)
  for (const [flags, code, stderr] of [
    [['--device', 'gpu'], 1, /"gpu" is neither .*ERR_ACCEL_INVALID_ARGUMENT/],
    [['--device', './none.sock'], 3, /none\.sock.*ERR_ACCEL_NOT_FOUND/],
    [['--repeat', '0'], 2, /A positive whole number is wanted/],
    [['--device', 'cpu', '-o', 'none/y.npy'], 3, /no folder none.*ERR_ACCEL_NOT_FOUND/],
    [['--device', 'cpu', '--labels', 'none.txt'], 3, /There is no file none\.txt.*ERR_ACCEL_NOT_FOUND/],
    [['--std', '1,0'], 2, /other than 0/],
    [['--scale', '1/x'], 2, /A number is wanted/],
    [['--dimension', '=3'], 2, /NAME=VALUE is wanted/],
  ] as const)
    failed(t, await on(...flags), { code, stderr })
})

t.test('stopped in the middle: told, nothing is written, nothing stays', async (t) => {
  for (const [signal, ...device] of [
    ['SIGINT', '--device', 'cpu'],
    ['SIGTERM', '--device', 'model'],
    ['SIGINT', '--device', 'model'],
  ] as const) {
    const child = start(
      [
        'infer',
        digits('digits.onnx'),
        '-i',
        digits('digit.npy'),
        '-r',
        '100000000',
        '-o',
        'never.npy',
        ...device,
      ],
      options,
    )
    const socket = () => readdirSync(TMPDIR).map((made) => join(TMPDIR, made, 'npu.sock'))[0]
    const path =
      device[1] === 'model' ? await eventually(() => existsSync(socket() ?? '') && socket()) : undefined
    const [told, exit] = [saidBy(child), once(child, 'exit')]
    // Where it runs is told when all is ready.
    await eventually(() => told.so.includes('CPU') || told.so.includes('NPU'))
    await sleep(500)
    child.kill(signal)
    t.strictSame(await exit, [null, signal])
    t.match(await told.all, new RegExp(`Stopped by ${signal}.*no output is written.*ERR_ACCEL_ABORTED`))
    t.strictSame(readdirSync(TMPDIR), [])
    t.notOk(readdirSync(folder).some((name) => name.startsWith('never')))
    if (path !== undefined) t.ok(await eventually(() => !served(path)), 'the process of the model ended')
  }
})

/** What a child says on stderr: so far, and to its end. */
function saidBy(child: ChildProcess): { so: string; readonly all: Promise<string> } {
  const told = { so: '', all: text(child.stderr!) }
  child.stderr!.on('data', (chunk) => {
    told.so += chunk
  })
  return told
}

async function eventually<T>(look: () => T | undefined | false | ''): Promise<T | undefined> {
  for (let waited = 0; waited < 10_000; waited += 20) {
    const found = look()
    if (found) return found
    await sleep(20)
  }
  return undefined
}

const served = (socket: string) =>
  readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(socket)
    } catch {
      return false
    }
  })

t.test('a device that goes in the middle is exit code 4', async (t) => {
  const server = start(['model', 'npu', '--socket', './gone.sock', '--quiet'], options)
  t.teardown(() => end(server))
  while (!existsSync(join(folder, 'gone.sock'))) await sleep(20)
  const child = start(
    ['infer', digits('digits.onnx'), '-i', digits('digit.npy'), '-r', '100000000', '--device', './gone.sock'],
    options,
  )
  const [told, exit] = [saidBy(child), once(child, 'exit')]
  await eventually(() => told.so.includes('NPU'))
  await sleep(500)
  server.kill('SIGKILL')
  t.strictSame(await exit, [4, null])
  t.match(await told.all, /ERR_ACCEL_NO_DEVICE/)
})

t.test('elements of all types, and what is told of scores', async (t) => {
  const cast = model('cast.onnx', {
    inputs: [{ name: 'x', dtype: 'int64', shape: ['n'] }],
    outputs: [{ name: 'y', dtype: 'int64', shape: ['n'] }],
    constants: new Map([['one', tensor('int64', [], BigInt64Array.of(1n))]]),
    nodes: [node('Add', ['x', 'one'], ['y'])],
  })
  const big = await infer(cast, '-i', file('big.json', '[9007199254740991, -3]'), '--device', 'cpu')
  t.same(JSON.parse(big.stdout), { y: { dtype: 'int64', shape: [2], data: ['9007199254740992', '-2'] } })
  failed(t, await infer(cast, '-i', file('half.json', '[1.5]'), '--device', 'cpu'), {
    code: 1,
    stderr: /half\.json holds 1\.5; the model takes int64 \[1\].*INVALID_SHAPE/,
  })
  const labels = file('labels.txt', 'zero\none\ntwo\nthree\nfour\nfive\nsix\n')
  const told = await infer(
    digits('digits.onnx'),
    '-i',
    digits('digit.npy'),
    '--device',
    'cpu',
    '--labels',
    labels,
    '--top',
    '2',
  )
  t.match(told.stderr, /^logits: six \(24\.3\), four \(4\.24\)$/m)
  const none = await infer(digits('digits.onnx'), '-i', digits('digit.npy'), '--device', 'cpu', '--top', '0')
  t.notMatch(none.stderr, /^logits/m)
})
