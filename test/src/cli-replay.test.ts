import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Ended, start, uaccel, uaccelBin } from './uaccel.js'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const run = (...args: string[]) => uaccel(args, { cwd: folder })
const itself = [process.execPath, uaccelBin]
const digits = (name: string) => fileURLToPath(new URL(`../../examples/digits/${name}`, import.meta.url))

/** Something that serves `path`, from when that is there. */
async function serve(
  t: Test,
  path: string,
  ...args: string[]
): Promise<{ ended: Promise<Omit<Ended, 'stdout'>> }> {
  const server = start(args, { cwd: folder })
  t.teardown(() => void server.kill())
  const errors = text(server.stderr!)
  const ended = Promise.all([once(server, 'exit'), errors]).then(([[code], stderr]) => ({ code, stderr }))
  while (!existsSync(join(folder, path)) && server.exitCode === null) await sleep(10)
  return { ended }
}

t.test('a program that knows nothing of it is recorded, and its device replayed', async (t) => {
  await serve(t, 'edu.sock', 'model', 'edu', '--socket', './edu.sock', '--quiet')
  const read = ['reg', 'read', './edu.sock', 'ID', 'STATUS']
  const recorded = await run('record', '--output', 'edu.rec', '--', ...itself, ...read)
  t.match(recorded, {
    code: 0,
    stdout: /^ID = 0x010000ed {2}major=1 {2}minor=0 {2}tag=237\nSTATUS = 0x00000000/,
    stderr: /^uaccel: \.\/edu\.sock is recorded into .*edu\.rec\n.*edu\.rec: \d+ steps\n$/,
  })

  const list = await run('replay', 'edu.rec', '--list')
  t.equal(list.code, 0)
  t.match(
    list.stdout,
    /^ +\d+ +\d+\.\d{6} {2}read of ID \(BAR 0 \+ 0x0\) = 0x10000ed \(major=1 minor=0 tag=237\)$/m,
  )
  t.match(list.stdout, / {2}the session ended, closed\n$/)

  for (const [what, args, code, said] of [
    ['the same program', ['ID', 'STATUS'], 0, 'replayed, all of it'],
    [
      'one that reads something else',
      ['ID', 'LIVENESS'],
      1,
      'edu.rec, after all \\d+ steps: expected nothing more; came read of LIVENESS \\(BAR 0 \\+ 0x4\\)',
    ],
    [
      'one that reads less',
      ['ID'],
      1,
      '1 steps of edu.rec were not replayed:\n  step \\d+ of \\d+, \\d\\.\\d{3} s into the session: read of STATUS \\(BAR 0 \\+ 0x20\\)',
    ],
  ] as const) {
    t.test(what, async (t) => {
      const { ended } = await serve(
        t,
        'replay.sock',
        'replay',
        'edu.rec',
        '--socket',
        './replay.sock',
        '--once',
      )
      const { stdout } = await run('reg', 'read', './replay.sock', ...args)
      if (code === 0) t.equal(stdout, recorded.stdout)
      t.match(await ended, { code, stderr: new RegExp(`^edu\\.rec on \\./replay\\.sock\n${said}\n$`) })
    })
  }
})

t.test('the NPU reads a digit, without the NPU', async (t) => {
  const infer = ['infer', digits('digits.onnx'), '--input', digits('digit.npy')]
  const recorded = await run('record', '-o', 'npu.rec', '--', ...itself, ...infer)
  t.equal(recorded.code, 0, recorded.stderr)
  const { ended } = await serve(t, 'npu.sock', 'replay', 'npu.rec', '--socket', './npu.sock', '--once')
  const replayed = await run(...infer, '--device', './npu.sock')
  t.equal(replayed.code, 0, replayed.stderr)
  t.equal(replayed.stdout, recorded.stdout)
  t.match(await ended, { code: 0, stderr: /\nreplayed, all of it\n$/ })
})

t.test(
  'a terminal interrupts the program once, and a signal to `uaccel record` alone is passed on',
  async (t) => {
    const program = join(folder, 'waits.mjs')
    writeFileSync(
      program,
      `let count = 0
    const end = (name) => {
      count++
      setTimeout(() => { console.log(\`\${name} \${count}\`); process.exit(0) }, 1000)
    }
    process.on('SIGINT', () => end('SIGINT')).on('SIGTERM', () => end('SIGTERM'))
    setInterval(() => {}, 1000)
    console.log('waits')`,
    )
    const args = ['record', '-o', 'waits.rec', '--', process.execPath, program]
    const whole = async (child: ChildProcess, interrupt: () => void) => {
      t.teardown(() => child.kill('SIGKILL'))
      let output = ''
      for await (const part of child.stdout!.setEncoding('utf8')) {
        if (!output.includes('waits') && `${output}${part}`.includes('waits')) interrupt()
        output += part
      }
      return output
    }
    const command = [process.execPath, uaccelBin, ...args].join(' ')
    const terminal = spawn('script', ['-qec', command, '/dev/null'], {
      cwd: folder,
      env: { ...process.env, SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    t.match(await whole(terminal, () => terminal.stdin!.write('\x03')), /SIGINT 1\r\n/)
    const alone = start(args, { cwd: folder })
    t.match(await whole(alone, () => alone.kill('SIGTERM')), /SIGTERM 1\n/)
  },
)

t.test('what a recording says is not obeyed by a terminal', async (t) => {
  const bytes = readFileSync(join(folder, 'edu.rec'))
  const evil = Buffer.from(bytes.toString('latin1').replaceAll('"STATUS"', '"\\u001b"'), 'latin1')
  writeFileSync(join(folder, 'evil.rec'), evil)
  const list = await run('replay', 'evil.rec', '--list')
  t.match(list, { code: 0, stdout: /read of {3}\(BAR 0 \+ 0x20\)/ })
  const { ended } = await serve(t, 'evil.sock', 'replay', 'evil.rec', '--socket', './evil.sock', '--once')
  await run('reg', 'read', './evil.sock', 'ID')
  const { code, stderr } = await ended
  t.equal(code, 1)
  t.match(stderr, /1 steps of evil\.rec were not replayed/)

  t.notOk(/\p{Cc}/u.test((list.stdout + stderr).replaceAll('\n', '')))
})

t.test('what cannot be recorded or replayed is said', async (t) => {
  writeFileSync(join(folder, 'there.rec'), 'kept')
  t.match(await run('record', '-o', 'there.rec', '--', ...itself, '--version'), {
    code: 1,
    stdout: '',
    stderr: /there\.rec exists: remove it, or record into another file\. \(ERR_ACCEL_BUSY\)/,
  })
  t.equal(readFileSync(join(folder, 'there.rec'), 'utf8'), 'kept')
  t.match(await run('record', '-o', 'nowhere/a.rec', '--', process.execPath, '-e', 'console.log(1)'), {
    code: 3,
    stdout: '',
    stderr: /There is no folder .*nowhere for the recording.*\(ERR_ACCEL_NOT_FOUND\)/,
  })
  t.match(await run('record', '-o', 'none.rec', '--', process.execPath, '-e', '1'), {
    code: 1,
    stderr: /opened no device, so there is no recording/,
  })
  t.match(await run('record', '-o', 'none.rec', '--', process.execPath, '-e', 'process.exit(7)'), { code: 7 })
  t.match(await run('record', '-o', 'none.rec', '--', './nothing'), {
    code: 3,
    stderr: /\.\/nothing cannot be run: .* \(ERR_ACCEL_NOT_FOUND\)/,
  })
  t.match(await run('replay', 'there.rec', '--list'), {
    code: 1,
    stderr: /there\.rec is no recording of a device: .* \(ERR_ACCEL_PROTOCOL\)/,
  })
  t.match(await run('replay', 'nowhere.rec', '--list'), { code: 3, stderr: /\(ERR_ACCEL_NOT_FOUND\)/ })
  t.match(await run('replay', 'there.rec'), { code: 1, stderr: /Say either --list or --socket PATH/ })
})
