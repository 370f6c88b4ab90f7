import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { nodeFolder } from './nodes.js'
import { serveModelCommand } from './served-model.js'
import { uaccel, uaccelBin } from './uaccel.js'

/** `uaccel irq` of models in another process, and of a node. */

t.setTimeout(120_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const run = (...args: string[]) => uaccel(['irq', ...args], { cwd: folder })

t.test('kinds, and interrupts that are fired without the device', async (t) => {
  const edu = await serveModelCommand(t, 'edu', folder)
  t.match(await run(edu), { code: 0, stderr: '', stdout: /^intx +1 +\S+\nmsi +1 +disabled$/m })
  const tested = await run(edu, '--test', '--times', '20')
  t.match(tested, { code: 0, stderr: '' })
  for (const kind of ['intx', 'msi'])
    t.match(tested.stdout, new RegExp(`^${kind} +0 +20 of 20 +[\\d.]+ (ns|us|ms) +[\\d.]+ (ns|us|ms)$`, 'm'))

  const npu = await serveModelCommand(t, 'npu', folder)
  const { kinds } = JSON.parse((await run(npu, '--json')).stdout)
  t.match(kinds, [
    { type: 'intx', vectors: 1 },
    { type: 'msix', vectors: 17, enabled: false, masked: false },
  ])
  const { tests } = JSON.parse((await run(npu, '--test', '--type', 'msix', '--json')).stdout)
  t.equal(tests.length, 17)
  for (const [vector, each] of tests.entries()) {
    t.match(each, { type: 'msix', vector, fired: 10, arrived: 10 })
    t.ok(each.medianNs > 0 && each.maxNs >= each.medianNs)
  }
})

t.test('what does not work', async (t) => {
  const edu = await serveModelCommand(t, 'edu', folder)
  for (const [args, code, stderr] of [
    [[edu, '--test', '--type', 'msix'], 1, /has no msix interrupts; it has intx, msi.*UNSUPPORTED/],
    [[edu, '--test', '--type', 'smoke'], 2, /Allowed choices are intx, msi, msix/],
    [[edu, '--test', '--times', '0'], 2, /A positive whole number/],
    [[edu, '--test', '--loop', '1'], 1, /is no node.*UNSUPPORTED/],
    [[edu, '--loop', '1'], 1, /is no node.*UNSUPPORTED/],
    [[edu, '--times', '3'], 2, /--times is for --test/],
    [[edu, '--type', 'msi'], 2, /--type is for --test/],
    [['accel0', '--count', '3'], 2, /--count is for --loop/],
    [['./none.sock', '--test'], 3, /NOT_FOUND/],
    [['fffe:ff:1f.7'], 3, /NOT_FOUND/],
    [['5.0'], 1, /neither a PCI address.*INVALID_ARGUMENT/],
    [['accel9', '--folder', folder], 3, /No node/],
    [[], 2, /missing required argument/],
  ] as const)
    t.match(await run(...args), { code, stdout: '', stderr })
  t.match(await run('--help'), { code: 0, stdout: /Examples:/ })
})

t.test('a node: counts, live', async (t) => {
  const nodes = nodeFolder(t)
  const server = fork(uaccelBin, ['serve', '--folder', nodes, '--model', 'edu'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  server.stderr!.resume()
  t.teardown(() => server.kill('SIGKILL'))
  await once(server, 'message')
  const once_ = await run('accel0', '--folder', nodes)
  t.match(once_, {
    code: 0,
    stderr: '',
    stdout: /^VECTOR +KIND +FIRED +HANDLED +COALESCED\n0 +msi +\d+ +\d+ +\d+\n$/,
  })
  const live = await run('accel0', '--folder', nodes, '--loop', '0.1', '--count', '3', '--json')
  const rounds = live.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.equal(rounds.length, 3)
  t.match(rounds[2], { node: 'accel0', vectors: [{ vector: 0, type: 'msi', perSecond: 0 }] })
  t.notOk('perSecond' in rounds[0].vectors[0], 'of the first round no rate is known')
  t.match(await run('accel0', '--folder', nodes, '--test'), { code: 1, stdout: '', stderr: /is served/ })
})
