import { execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import t, { type Test } from 'tap'
import { nodeFolder } from './nodes.js'
import { start, uaccel, uaccelBin } from './uaccel.js'

/** `uaccel top` in a terminal and out of one, and completion in a shell. */

t.setTimeout(300_000)

const folder = nodeFolder(t)

t.before(async () => {
  const server = fork(uaccelBin, ['serve', '--folder', folder, '--model', 'edu', 'npu'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  server.stderr!.resume()
  t.teardown(() => server.kill('SIGKILL'))
  await once(server, 'message')
  // A client at work.
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  let working = true
  const work = (async () => {
    while (working) await edu.call('factorial', { n: 10 })
  })()
  t.teardown(async () => {
    working = false
    await work
    await edu.close()
  })
})

const ENTER = '\x1b[?1049h'
const LEAVE = '\x1b[?1049l'
/** Sequences that begin with CSI, but for those of the screens. */
const sequences = /\p{Cc}\[[?0-9;]*[A-Za-z]/gu
/** A terminal makes CR LF of the LF of a line end. */
const linesOf = (frame: string) => frame.replace(sequences, '').split(/\r+\n/)

/** `uaccel top` in a pseudo-terminal, and what it wrote so far. */
async function terminal(t: Test, size: { columns: number; rows: number }, ...flags: string[]) {
  const top = [process.execPath, uaccelBin, 'top', '--interval', '0.1', '--folder', folder, ...flags]
  const command = `stty cols ${size.columns} rows ${size.rows}; tty; echo $$; exec ${top.join(' ')}`
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '', SHELL: '/bin/sh' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (part) => {
    output += part
  })
  const exit = once(child, 'close').then(([code]) => code as number)
  const frames = () => output.split('\x1b[H').slice(1)
  /** Waits for a frame, drawn after now, of which that is true. */
  const drawn = async (wanted: (lines: string[]) => boolean): Promise<string> => {
    const from = frames().length
    for (let waited = 0; waited < 60_000; waited += 20) {
      const found = frames()
        .slice(from, -1)
        .find((frame) => wanted(linesOf(frame)))
      if (found !== undefined) return found
      await sleep(20)
    }
    throw new Error(`no such frame; the last: ${frames().at(-2)}`)
  }
  await drawn(() => true)
  const [tty, pid] = output.split('\r\n')
  return {
    drawn,
    exit,
    press: (keys: string) => child.stdin.write(keys),
    kill: (signal: NodeJS.Signals) => process.kill(Number(pid), signal),
    resize: (columns: number, rows: number) =>
      execFileSync('stty', ['-F', tty!, 'cols', `${columns}`, 'rows', `${rows}`]),
    output: () => output,
  }
}

function fits(t: Test, frame: string, columns: number, rows: number): void {
  const lines = linesOf(frame)
  t.equal(lines.length, rows)
  for (const line of lines) t.ok(line.length <= columns, line)
}

t.test('top in a terminal: screens, keys, size, and the terminal is given back', async (t) => {
  const top = await terminal(t, { columns: 80, rows: 24 })
  const first = await top.drawn((lines) => lines.some((line) => line.includes(`${process.pid}`)))
  fits(t, first, 80, 24)
  t.ok(first.includes('\x1b[32m'), 'colours')
  t.match(linesOf(first)[0], /^uaccel top {2}\d\d:\d\d:\d\d {2}2 devices, 1 client +each 0\.1 s, by busy$/)
  t.match(linesOf(first).join('\n'), /^accel0 {2}QEMU edu +[\d.]+% .* operational$/m)
  t.match(linesOf(first).join('\n'), /^accel1 {2}npu +0\.0%/m)
  t.match(linesOf(first).join('\n'), new RegExp(`^accel0 +${process.pid} .*% +[1-9]`, 'm'), 'it works')

  top.press('?')
  fits(t, await top.drawn((lines) => lines.some((line) => line.startsWith('BUSY '))), 80, 24)
  top.press('?\x1b[C')
  await top.drawn(([title]) => title!.endsWith('by done'))
  top.press(' ')
  await top.drawn(([title]) => title!.endsWith('PAUSED, by done'))
  top.press(' \x1b[D')
  await top.drawn(([title]) => title!.endsWith('s, by busy'))
  top.resize(50, 12)
  fits(t, await top.drawn((lines) => lines.length === 12), 50, 12)
  top.resize(120, 30)
  fits(t, await top.drawn((lines) => lines.length === 30), 120, 30)
  top.press('q')
  t.equal(await top.exit, 0)
  t.ok(top.output().endsWith(`\x1b[?25h${LEAVE}`), 'cursor and screen are back')
  t.equal(top.output().split(ENTER).length, 2)
})

t.test('top ends on signals, and writes no colours where none are wanted', async (t) => {
  const ends = ['SIGINT', 'SIGTERM', '\x03'] as const
  await Promise.all(
    ends.map(async (end) => {
      const top = await terminal(t, { columns: 80, rows: 24 }, '--no-color')
      if (end === '\x03') top.press(end)
      else top.kill(end)
      t.equal(await top.exit, 0, end)
      t.ok(top.output().endsWith(LEAVE), end)
      t.notMatch(top.output(), /\p{Cc}\[\d+m/u)
    }),
  )
})

t.test('top --batch', async (t) => {
  const batch = await uaccel(['top', '-b', '-c', '2', '-i', '0.1', '--folder', folder], {
    env: { FORCE_COLOR: '1' },
  })
  t.match(batch, { code: 0, stderr: '' })
  t.notOk(batch.stdout.includes('\x1b'))
  t.equal(batch.stdout.match(/^uaccel top/gm)?.length, 2)
  for (const line of batch.stdout.split('\n')) t.ok(line.length <= 80, line)
  const child = start(['top', '-b', '-i', '0.05', '--folder', folder])
  await once(child.stdout!, 'data')
  child.stdout!.destroy()
  t.same(
    [await text(child.stderr!), child.exitCode ?? (await once(child, 'exit'))[0]],
    ['', 0],
    'its reader has left',
  )

  t.match(await uaccel(['top', '--folder', folder]), { code: 2, stdout: '', stderr: /no terminal.*--batch/ })
  t.match(await uaccel(['top', '-b', '--folder', nodeFolder(t)]), {
    code: 3,
    stdout: '',
    stderr: /There is no node in .*`uaccel serve --folder .*ERR_ACCEL_NOT_FOUND/,
  })
  t.match(await uaccel(['top', '-b', 'accel9', '--folder', folder]), { code: 3, stderr: /No node/ })
  t.match(await uaccel(['top', '-b', '--sort', 'luck', '--folder', folder]), {
    code: 2,
    stderr: /Allowed choices/,
  })
})

t.test('completion in bash', async (t) => {
  const bin = join(nodeFolder(t), 'bin')
  mkdirSync(bin)
  symlinkSync(uaccelBin, join(bin, 'uaccel'))
  const lines = [
    'uaccel inf',
    `uaccel info -f ${folder} `,
    `uaccel query -f ${folder} --fields node,temp`,
    `uaccel attr --folder ${folder} accel1 performance/cl`,
    'uaccel top --ba',
    'uaccel frobnicate ',
  ]
  // What readline sets before it calls the function (bash(1), Programmable Completion).
  const script = `
    source <(uaccel completion bash)
    complete -p uaccel
    compopt() { :; }
    while read -r -d $'\\t' COMP_LINE; do
      [[ $COMP_LINE == *. ]] && COMP_LINE="\${COMP_LINE%.}"
      COMP_POINT=\${#COMP_LINE} COMP_WORDS=($COMP_LINE)
      _uaccel
      echo "\${COMPREPLY[*]}"
    done`
  const shell = spawn('bash', ['--norc', '-c', script], {
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  // A dot keeps the space at the end from `read`.
  shell.stdin.end(lines.map((line) => `${line}.\t`).join(''))
  t.same((await text(shell.stdout)).trimEnd().split('\n'), [
    'complete -o bashdefault -o default -F _uaccel uaccel',
    'info infer',
    'accel0 accel1',
    'node,temperature',
    'performance/clear=',
    '--batch',
  ])
})

t.test('completion for zsh and fish is theirs to read, and asks the same', async (t) => {
  for (const shell of ['zsh', 'fish']) {
    const script = await uaccel(['completion', shell])
    t.match(script, {
      code: 0,
      stderr: '',
      stdout: new RegExp(`uaccel" completion|completion ${shell} --line`),
    })
  }
  t.strictSame(await uaccel(['completion', 'zsh', '--line', 'uaccel lis']), {
    code: 0,
    stdout: 'list\tdevices, and which driver here would take them; with --nodes those that are served\n',
    stderr: '',
  })
  t.match(await uaccel(['completion', 'tcsh']), { code: 2, stderr: /Allowed choices are bash, zsh, fish/ })
})
