import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { findLab } from '@uaccel/lab'
import t from 'tap'
import { onOneCore, twoCores } from './affinity.js'
import { arithmeticRow, figures } from './arithmetic.js'
import { graphs } from './arithmetic-graphs.js'
import { compilerVersion, startBaseline } from './baseline.js'
import { Child } from './child.js'
import { measureContest, median, type Row } from './measure.js'
import { drawPage, type Machine } from './report.js'

t.setTimeout(120_000)

/** A user's machine may have no compiler, and then these are reported as not run; CI has one, or fails. */
const needsCompiler = { skip: process.env.CI ? false : missingCompiler() }

function missingCompiler(): string | false {
  try {
    compilerVersion()
    return false
  } catch (error) {
    return `not run: ${(error as Error).message}`
  }
}

// Guests are emulated, and other tests run beside this one.
t.setTimeout(900_000)

const main = fileURLToPath(new URL('main.js', import.meta.url))

/** The rows of reads from an NVMe controller. */
const reads = (place: string, depths: readonly number[]) =>
  depths.flatMap((depth) =>
    ['reads', 'time of the host', 'latency p50', 'latency p99', 'latency p99.99', 'latency p99.99 / p50'].map(
      (figure) => `${place}, depth ${depth}: ${figure}`,
    ),
  )

const eventfds = (where: string) =>
  ['handler, uv engine', 'handler, epoll engine', 'a thread that blocks'].flatMap((to) =>
    ['p50', 'p99'].map((figure) => `eventfd to ${to}, ${where}, ${figure}`),
  )

async function bench(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, ...env } })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { stdout, stderr, code: await ended }
}

t.test('a quick run has every row, and nothing but JSON on stdout', needsCompiler, async (t) => {
  const { stdout, stderr, code } = await bench(['--quick', '--json'], { UACCEL_ORT: '/nonexistent' })
  t.equal(code, 0, stderr)
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  const { schema, machine, rows, leftOut } = JSON.parse(stdout) as {
    schema: number
    machine: Record<string, string>
    rows: Row[]
    leftOut: string[]
  }
  const cores = twoCores() !== undefined
  const lab = (await findLab()).missing.length === 0
  t.equal(schema, 1)
  t.strictSame(Object.keys(machine), ['cpu', 'node', 'kernel', 'cc'])
  t.strictSame(
    rows.map(({ name }) => name),
    [
      'register read',
      'register read, bare array',
      'register read, bare array, value kept',
      'register write',
      'register write, bare array',
      'register read, once a mapping was taken back',
      'register write, once a mapping was taken back',
      'submission + completion, 1 per doorbell',
      'submission + completion, 16 per doorbell',
      'submission + completion, 16 per doorbell, 3 words patched',
      'NPU driver: submit a job',
      'NPU driver: complete a job',
      'NVMe: build a 4 KiB read and ring its doorbell, 1 per doorbell',
      'NVMe: build a 4 KiB read and ring its doorbell, 32 per doorbell',
      'NVMe: poll a completion',
      'NVMe: build a 4 KiB read and ring its doorbell, 32 per doorbell, four queues in turn',
      'NVMe: poll a completion, four queues in turn',
      ...(cores ? reads('NVMe, null target', [1, 4, 16, 32, 64, 128]) : []),
      ...(cores ? reads('NVMe, target of 350 ns a read', [1, 32, 128]) : []),
      ...(lab ? reads("NVMe, QEMU's in the lab", [1, 32, 128]) : []),
      "submit a job: queue of a client / of the driver's process",
      "complete a job: queue of a client / of the driver's process",
      "round trip of a job, 1 per doorbell: queue of a client / of the driver's process",
      "round trip of a job, 64 per doorbell: queue of a client / of the driver's process",
      ...eventfds('one core'),
      ...(cores ? eventfds('two cores') : []),
      'region read, one core: client, on a C server',
      'region read, one core: client, on a TypeScript server',
      'region read, one core: server, for a C client',
      'region read, any core: client, on a C server',
      'region read, any core: client, on a TypeScript server',
      'region read, any core: server, for a C client',
      'node command, one core: one at a time',
      'node command, one core: 64 under way',
      'node command, any core: one at a time',
      'node command, any core: 64 under way',
      'buffer of 1 KiB: made, shared, mapped twice',
      'buffer of 64 KiB: made, shared, mapped twice',
      'buffer of 1 MiB: made, shared, mapped twice',
      'buffer of 16 MiB: made, shared, mapped twice',
      'buffer of 256 MiB: made, shared, mapped twice',
    ],
  )
  t.equal(leftOut.length, 2 + 2 * Number(!cores) + Number(!lab), leftOut.join('\n'))
  for (const { name, typescript, c, ratio, spread, rounds } of rows) {
    for (const figure of [typescript, c, ratio, spread.min, spread.max, rounds]) {
      t.ok(Number.isFinite(figure) && figure > 0, `${name}: ${figure}`)
    }
    t.ok(spread.min <= spread.max, name)
  }
})

t.test('graphs give what onnxruntime gives, and have a section of the page', async (t) => {
  const { stdout, stderr, code } = await bench(['--quick', '--json', '--only', 'arithmetic'])
  t.equal(code, 0, stderr)
  const { machine, rows, leftOut } = JSON.parse(stdout) as {
    machine: Machine
    rows: Row[]
    leftOut: string[]
  }
  t.strictSame(leftOut, [])
  t.strictSame(
    rows.map(({ name }) => name),
    graphs.flatMap(({ name }) => figures.map((figure) => arithmeticRow(name, figure))),
  )
  t.ok(rows.every(({ ratio }) => ratio > 0))
  const page = drawPage(machine, rows, leftOut)
  const section = page.slice(page.indexOf('## Inference beside onnxruntime'))
  for (const { name } of graphs) t.match(section, `\n| ${name} | `)
  t.notMatch(page.slice(0, -section.length), graphs[0].name, 'and none of the other table')
  t.notMatch(drawPage(machine, [], []), '## Inference')
})

t.test('one benchmark, as a table', needsCompiler, async (t) => {
  const { stdout, code } = await bench(['--quick', '--only', 'register'])
  t.equal(code, 0)
  t.match(stdout, /register read .*register write .*Medians of 3 interleaved rounds/s)
  t.notMatch(stdout, 'eventfd')
})

t.test(
  'reads from a target that somebody else started',
  { skip: (twoCores() === undefined && 'not run: one core') || needsCompiler.skip },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-')) // the path of a socket is short
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const socket = join(folder, 'nvme.sock')
    const target = startBaseline('nvme-target', [socket])
    try {
      t.equal(await target.line(), 'ready')
      const { stdout, stderr, code } = await bench(['--quick', '--json', '--nvme-socket', socket])
      t.equal(code, 0, stderr)
      const { rows } = JSON.parse(stdout) as { rows: Row[] }
      t.strictSame(
        rows.map(({ name }) => name),
        reads(`NVMe, ${socket}`, [1, 4, 16, 32, 64, 128]),
      )
    } finally {
      await target.close()
    }
  },
)

t.test('without a compiler: what is missing, and how to get it', async (t) => {
  const { stdout, stderr, code } = await bench(['--json'], { CC: '/nonexistent/cc' })
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, /^ERR_ACCEL_NOT_FOUND: .*\/nonexistent\/cc is not there.*apt install build-essential/)
})

t.test('wrong usage', async (t) => {
  for (const args of [
    ['--only', 'nothing'],
    ['--fast'],
    ['--write', '--quick'],
    ['--only', 'ring', '--nvme-socket', '/x'],
    ['--nvme-socket', '/x', '--write'],
  ]) {
    const { stdout, stderr, code } = await bench(args)
    t.strictSame([code, stdout], [2, ''], args.join(' '))
    t.match(stderr, 'Usage: npm run bench')
  }
})

t.test('one core, and all of them again', async (t) => {
  const cores = () => execFileSync('nproc', { encoding: 'utf8' }).trim()
  const before = cores()
  await onOneCore(async () => void t.equal(cores(), '1'))
  t.equal(cores(), before)
  await t.rejects(
    onOneCore(() => Promise.reject(new Error('mid-way'))),
    { message: 'mid-way' },
  )
  t.equal(cores(), before)
})

t.test('rounds take turns, and the spread is that of the rounds', async (t) => {
  const order: string[] = []
  const times = { typescript: [9, 2, 4, 6], c: [9, 1, 1, 2] }
  const side = (name: 'typescript' | 'c') => async (operations: number) => {
    order.push(`${name} ${operations}`)
    return [times[name].shift()!]
  }
  const [row] = await measureContest(
    { rows: ['a row'], unit: 'ns', operations: 200, typescript: side('typescript'), c: side('c') },
    { rounds: 3, warmUps: 1, divisor: 100 },
  )
  t.strictSame(row, {
    name: 'a row',
    unit: 'ns',
    typescript: 4,
    c: 1,
    ratio: 4,
    spread: { min: 2, max: 4 },
    rounds: 3,
  })
  t.strictSame(
    order.map((run) => run[0]),
    ['c', 't', 't', 'c', 'c', 't', 't', 'c'],
  )
  t.ok(order.every((run) => run.endsWith(' 2')))
  t.equal(median([3, 1, 2, 10]), 2.5)
})

t.test('a process that ends is an error, not a wait', needsCompiler, async (t) => {
  const child = new Child('false')
  await t.rejects(child.run(1), { code: 'ERR_ACCEL_CLOSED', message: /false ended .*code 1/ })
  await child.close()
  const client = startBaseline('vfio-user-client', ['/nonexistent/socket'])
  await t.rejects(client.run(1), { code: 'ERR_ACCEL_CLOSED' })
})
