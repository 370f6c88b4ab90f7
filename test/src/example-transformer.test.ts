import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findOnnxRuntime, formatReport, installOnnxRuntime } from '@uaccel/example-transformer'
import t from 'tap'
import { runExample } from './example.js'
import { eventually } from './nodes.js'
import { onnxruntime } from './onnxruntime.js'

// The example runs whole, several times, on machines that may be slow.
t.setTimeout(300_000)

t.test('the block on an NPU in another process is that of the CPU and of onnxruntime', async (t) => {
  onnxruntime()
  const { code, stdout, stderr } = await runExample('transformer', [
    '--json',
    '--tokens',
    '12',
    '--heads',
    '8',
  ])
  t.equal(code, 0, stderr)
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  const { steps, millis, ...summary } = JSON.parse(stdout)
  const alone = formatReport({ steps, millis, ...summary, compared: false })
  t.match(alone, `not compared with onnxruntime-node, which is not installed here: ${installOnnxRuntime}\n`)
  t.match(summary, {
    device: /^NPU-1 .*emulated/,
    transport: 'vfio-user',
    ...{ tokens: 12, width: 64, heads: 8, hidden: 256, seed: 1 },
    operators: { device: 28, cpu: 0, free: 4 },
    doorbells: 1,
    ...{ compared: true, mismatches: 0, tolerance: 1e-5 },
  })
  t.ok(summary.commands < summary.operators.device, `${summary.commands} commands: operators are fused`)
  t.same(
    steps.map(({ name }: { name: string }) => name),
    ['embedded', 'query', 'key', 'value', 'scores', 'attention', 'attended', 'hidden', 'output'],
  )
  for (const { name, fromCpu, fromOnnxRuntime } of steps) {
    t.ok(fromCpu <= 1e-5, `${name} differs by ${fromCpu} from the CPU`)
    t.ok(fromOnnxRuntime <= 1e-5, `${name} differs by ${fromOnnxRuntime} from onnxruntime`)
  }
  t.ok(millis.device > 0 && millis.cpu > 0 && millis.onnxRuntime > 0)
})

t.test('on the CPU, as a table; wrong usage', async (t) => {
  const cpu = await runExample('transformer', ['--device', 'cpu', '--tokens', '4'])
  t.equal(cpu.code, 0, cpu.stderr)
  t.match(cpu.stdout, /operators {2}0 on the device, 28 on the CPU, 4 free; 0 commands, 0 doorbells/)
  t.match(cpu.stdout, /0 of 9 steps beyond the tolerance/)
  t.ok(cpu.stdout.split('\n').every((line) => line.length <= 120))
  t.match((await runExample('transformer', ['--help'])).stdout, /^Usage/)
  for (const wrong of [['--wrong'], ['--tokens', '0'], ['--width', '10']])
    t.match(await runExample('transformer', wrong), { code: 2, stdout: '', stderr: /Usage/ }, wrong.join(' '))
  const none = await runExample('transformer', ['--device', '/nowhere/accel0'])
  t.match(none, { code: 1, stdout: '', stderr: /^ERR_ACCEL_NOT_FOUND/ })
})

t.test('where onnxruntime-node is not installed, nothing is found', async (t) => {
  t.equal(findOnnxRuntime([`${t.testdir()}/main.js`]), undefined)
})

t.test('when the process of the model is killed, it ends with the reason, and leaves nothing', async (t) => {
  // Not t.testdir(): a socket's path may have 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-test-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  let pid = 0
  const ended = runExample('transformer', ['--tokens', '512', '--json'], { TMPDIR: folder }, (started) => {
    pid = started
  })
  const served = () => readdirSync(folder).some((name) => existsSync(join(folder, name, 'npu.sock')))
  t.ok(await eventually(served), 'the model serves')
  const [model] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  process.kill(Number(model), 'SIGKILL')
  t.match(await ended, { code: 1, stdout: '', stderr: /^ERR_ACCEL_/ })
  t.same(readdirSync(folder), [])
})
