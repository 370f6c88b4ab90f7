import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { serveModelCommand } from './served-model.js'
import { start, uaccel, uaccelBin } from './uaccel.js'

/** `uaccel reg shell`, `reg run` and `reg watch` on models in another process. */

t.setTimeout(200_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const state = join(folder, 'state')
const run = (...args: string[]) => uaccel(['reg', ...args], { cwd: folder })

/** `uaccel reg shell` in a pseudo-terminal. */
function terminal(t: Test, socket: string) {
  const child = spawn(
    'script',
    ['-qec', `${process.execPath} ${uaccelBin} reg shell ${socket}`, '/dev/null'],
    {
      cwd: folder,
      env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '1', SHELL: '/bin/sh', XDG_STATE_HOME: state },
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  )
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (part) => {
    output += part
  })
  let seen = 0
  return {
    exit: once(child, 'close').then(([code]) => code as number),
    type: (keys: string) => child.stdin.write(keys),
    /** Waits for what was not seen yet. */
    async shows(wanted: RegExp): Promise<void> {
      for (let waited = 0; waited < 30_000; waited += 20) {
        const match = wanted.exec(output.slice(seen))
        if (match) {
          seen += match.index + match[0].length
          return
        }
        await sleep(20)
      }
      throw new Error(`${wanted} was not shown; last: ${JSON.stringify(output.slice(seen))}`)
    },
  }
}

t.test('the shell in a terminal: device open, completion, history', async (t) => {
  const edu = await serveModelCommand(t, 'edu', folder)
  const first = terminal(t, edu)
  await first.shows(/11 registers; help tells/)
  await first.shows(/uaccel> /)
  // A tab completes where it comes alone: what is pasted may have tabs in it.
  const tab = async (before: string, after: RegExp) => {
    first.type(before)
    await first.shows(new RegExp(before.trim()))
    first.type('\t')
    await first.shows(after)
  }
  await tab('wri', /te /)
  await tab('LIVE', /NESS /)
  first.type('0x12345678\r')
  await first.shows(/uaccel> /)
  first.type('read LIVENESS\r')
  await first.shows(/LIVENESS = 0xedcba987/)
  await first.shows(/uaccel> /)
  await tab('write STATUS irq', /OnDone=/)
  first.type('true\r')
  await first.shows(/uaccel> /)
  first.type('r STATUS\r')
  await first.shows(/STATUS = 0x00000080 {2}computing=false {2}irqOnDone=true/)
  first.type('read NOTHING\r')
  await first.shows(/There is no register NOTHING.*ERR_ACCEL_NOT_FOUND/)
  first.type('fields STATUS\r')
  await first.shows(/0 +computing\r\n7 +irqOnDone/)
  first.type('history\r')
  await first.shows(/\d\d:\d\d:\d\d\.\d{3} {2}LIVENESS <- 0x12345678\r\n.* LIVENESS = 0xedcba987/)
  first.type('half a line\x03read ID\r')
  await first.shows(/ID = 0x010000ed/)
  first.type('save session.reg\r\x04') // at once: the line is obeyed, and then it ends
  t.equal(await first.exit, 0)

  const kept = readFileSync(join(state, 'uaccel/reg-history'), 'utf8').split('\n')
  t.equal(kept[0], 'save session.reg')
  t.ok(kept.includes('write LIVENESS 0x12345678'))
  t.equal(statSync(join(state, 'uaccel/reg-history')).mode & 0o777, 0o600)
  const second = terminal(t, edu)
  await second.shows(/uaccel> /)
  second.type('\x1b[A\x1b[A\r') // two lines back: read ID
  await second.shows(/ID = 0x010000ed/)
  second.type('exit\r')
  t.equal(await second.exit, 0)

  const replayed = await run('run', edu, 'session.reg')
  t.match(replayed, { code: 0, stderr: '' })
  t.equal(
    replayed.stdout,
    'LIVENESS = 0xedcba987\nSTATUS = 0x00000080  computing=false  irqOnDone=true\nID = 0x010000ed  major=1  minor=0  tag=237\n',
  )
})

t.test('from a pipe, and scripts', async (t) => {
  const edu = await serveModelCommand(t, 'edu', folder)
  const child = spawn(process.execPath, [uaccelBin, 'reg', 'shell', edu], { cwd: folder })
  child.stdin.end('# a comment\n\nread ID\nsleep 1\nwrite ID 1\nread ID\n')
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  t.equal(code, 1)
  t.equal(stdout, 'ID = 0x010000ed  major=1  minor=0  tag=237\n', 'it ends at the first error')
  t.match(stderr, /ID cannot be written.*ERR_ACCEL_BAD_ACCESS/)
  for (const [script, code, stderr] of [
    ['read\n', 1, /s.reg, line 1: Wanted: read NAME/],
    ['read ID\nwrite LIVENESS\n', 1, /line 2: Wanted: write NAME VALUE/],
    ['write LIVENESS 0x100000000', 1, /is no value of LIVENESS.*OUT_OF_RANGE/],
    ['write STATUS nothing=1', 1, /has no field nothing/],
    ['write STATUS irqOnDone=2', 1, /wanted a boolean, found 2/],
    ['write STATUS irqOnDone=1=0', 1, /each field once.*INVALID_ARGUMENT/],
    ['write STATUS irqOnDone=1,irqOnDone=0', 1, /each field once/],
    ['write STATUS irqOnDone=1,computing', 1, /each field once/],
    ['write STATUS __proto__=1', 1, /has no field __proto__/],
    ['sleep long', 1, /Wanted: sleep MS/],
    ['jump', 1, /There is no command "jump"; there are read, write/],
    ['read NOTHING', 3, /There is no register NOTHING/],
  ] as const) {
    writeFileSync(join(folder, 's.reg'), script)
    t.match(await run('run', edu, 's.reg'), { code, stderr })
  }
  t.match(await run('run', edu, 'none.reg'), { code: 3, stdout: '', stderr: /none.reg cannot be read/ })
})

t.test('watch: values, then what changes', async (t) => {
  const npu = await serveModelCommand(t, 'npu', folder)
  const two = await run('watch', npu, 'ID', 'QUEUE[1*].QSTS', '--count', '2', '--interval', '1')
  t.match(two, { code: 0, stderr: '' })
  const lines = two.stdout.trim().split('\n')
  t.match(lines[0], /^\d\d:\d\d:\d\d\.\d{3} {2}ID = 0x/)
  t.equal(
    lines.length,
    new Set(lines.map((line) => line.split(' ')[2])).size,
    'nothing changed: each stands once',
  )
  const json = await run('watch', npu, 'ID', '--count', '1', '--json')
  t.match(JSON.parse(json.stdout), { name: 'ID', value: 0x3155504e })

  // The heartbeat changes while the controller works, which nobody enabled; a register that the client itself writes does not change either.
  const live = start(['reg', 'watch', npu, 'ID', '--interval', '5'], { cwd: folder })
  await once(live.stdout!, 'data')
  live.kill('SIGINT')
  t.equal((await once(live, 'exit'))[0], 0)

  for (const [names, code, stderr] of [
    [['NOTHING'], 3, /There is no register NOTHING/],
    [['Z*'], 3, /No register that may be read matches Z\*/],
    [['ID', '--interval', '0'], 2, /Milliseconds are wanted/],
    [[], 2, /missing required argument/],
  ] as const)
    t.match(await run('watch', npu, ...names), { code, stdout: '', stderr })
  for (const command of ['shell', 'watch', 'run'])
    t.match(await run(command, '--help'), { code: 0, stdout: /Examples:/ })
})

t.test('the model goes while the shell waits', async (t) => {
  const socket = './gone.sock'
  const model = start(['model', 'edu', '--socket', socket, '--quiet'], { cwd: folder })
  for (let i = 0; i < 200 && (await run('read', socket, 'ID')).code !== 0; i++) await sleep(20)
  const shell = terminal(t, socket)
  await shell.shows(/uaccel> /)
  model.kill('SIGKILL')
  t.equal(await shell.exit, 4)
})

t.test('a sleep ends with the model, and at ^C', async (t) => {
  const socket = './asleep.sock'
  const model = start(['model', 'edu', '--socket', socket, '--quiet'], { cwd: folder })
  for (let i = 0; i < 200 && (await run('read', socket, 'ID')).code !== 0; i++) await sleep(20)
  const shell = terminal(t, socket)
  await shell.shows(/uaccel> /)
  shell.type('sleep 3600000\r')
  await shell.shows(/sleep 3600000\r/)
  await sleep(100)
  shell.type('\x03')
  await shell.shows(/uaccel> /)
  shell.type('read ID\rexit\r')
  await shell.shows(/ID = 0x010000ed/)
  t.equal(await shell.exit, 0)

  const child = spawn(process.execPath, [uaccelBin, 'reg', 'shell', socket], { cwd: folder })
  child.stdin.write('read ID\nsleep 3600000\nread ID\n')
  await once(child.stdout, 'data')
  model.kill('SIGKILL')
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
  t.equal(code, 4)
  t.equal(stderr.match(/uaccel:/g)?.length, 1, 'the loss is told once')
})
