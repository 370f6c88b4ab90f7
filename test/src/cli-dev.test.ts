import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openAccel } from '@uaccel/client'
import { commonUapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { boxUapi, type DevPackage, devPackage } from './dev-package.js'
import { nodeFolder } from './nodes.js'
import { start, uaccel, uaccelBin } from './uaccel.js'

/** `uaccel dev` on packages in folders of their own: real files, compilers, processes and a terminal. */

t.setTimeout(300_000)

/** How long something may take on a machine that has much else to do. */
const PATIENCE_MS = 60_000

async function until<T>(what: string | (() => string), look: () => T | undefined | false): Promise<T> {
  for (let waited = 0; waited < PATIENCE_MS; waited += 20) {
    const found = look()
    if (found) return found
    await sleep(20)
  }
  throw new Error(`in vain: ${typeof what === 'string' ? what : what()}`)
}

/** `uaccel dev` without a terminal, and the lines that it wrote. */
function developing(t: Test, { folder: path }: DevPackage, ...flags: string[]) {
  const folder = nodeFolder(t)
  const child = start(['dev', path, '--folder', folder, ...flags])
  t.teardown(() => child.kill('SIGKILL'))
  const lines: string[] = []
  for (const input of [child.stdout!, child.stderr!])
    createInterface({ input }).on('line', (line) => lines.push(line))
  let seen = 0
  /** Waits for a line that was not waited for yet. */
  const said = (pattern: RegExp): Promise<string> =>
    until(
      () => `${pattern} in\n${lines.join('\n')}`,
      () => {
        const at = lines.findIndex((line, i) => i >= seen && pattern.test(line))
        if (at < 0) return undefined
        seen = at + 1
        return lines[at]
      },
    )
  return {
    folder,
    child,
    lines,
    said,
    open: () => openAccel(boxUapi, 'accel0', { folder, timeoutMs: PATIENCE_MS }),
  }
}

/** A process and all that came of it. */
function family(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        // After the name of the program, which is in parentheses: state, parent. proc_pid_stat(5)
        return [[Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])] as const]
      } catch {
        return [] // it ended since
      }
    })
  const all = [pid]
  for (const each of all) all.push(...parents.filter(([, parent]) => parent === each).map(([child]) => child))
  return all
}

const alive = (pids: readonly number[]) =>
  pids.filter((pid) => {
    try {
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
    } catch {
      return false
    }
  })

/** Where those processes have sockets of theirs: proc_pid_fd(5) has their inodes, /proc/net/unix the names. */
function worksOf(pids: readonly number[]): string[] {
  const held = pids.flatMap((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    } catch {
      return []
    }
  })
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , , , , inode, path]) => path !== undefined && held.includes(`socket:[${inode}]`))
    .map(([, , , , , , , path]) => dirname(path!))
    .filter((path) => path.startsWith(join(tmpdir(), 'uaccel-dev-')))
}

/** Nothing is left of a run: no process, no node, no folder. */
async function nothingLeft(
  t: Test,
  { folder }: { folder: string },
  pids: readonly number[],
  works: readonly string[],
): Promise<void> {
  await until('the end of all processes', () => alive(pids).length === 0)
  t.notOk(existsSync(join(folder, 'accel0')), 'no node')
  t.not(works.length, 0)
  t.same(works.filter(existsSync), [], 'no folder of its own')
}

t.test('a driver is reloaded, and its model keeps what it knows', async (t) => {
  const box = devPackage(t)
  const dev = developing(t, box)
  await dev.said(/dev +model box runs in process \d+$/)
  await dev.said(/dev +driver box runs in process \d+, as .*accel0$/)
  const first = await dev.open()
  t.same(await first.call('revision', {}), { value: 1 })
  await first.call('put', { value: 0x1234_5678, data: Uint8Array.of(1, 2, 3, 4) })
  await dev.said(/device +write word = 0x12345678$/)
  await dev.said(/command +put \{"value":305419896,"data":"01020304"\} -> \{\} /)
  const hanging = first.call('hang', {}, { timeoutMs: PATIENCE_MS })
  hanging.catch(() => {})

  box.edit('src/revision.ts', '1', '2')
  await t.rejects(hanging, {
    code: 'ERR_ACCEL_NO_DEVICE',
    message: /driver of accel0 was reloaded: open it again/,
  })
  t.match(await first.lost, { message: /was reloaded/ })
  // The next one is not there yet: this waits for it.
  const second = await dev.open()
  t.same(await second.call('revision', {}), { value: 2 })
  const kept = { value: 0x1234_5678, data: Uint8Array.of(1, 2, 3, 4) }
  t.same(await second.call('get', {}), kept, 'registers, and memory of the device')
  await dev.said(/driver box was reloaded \(1\) in .*; the model kept its state$/)

  await t.test('a compile error keeps the driver', async (t) => {
    box.edit('src/revision.ts', '= 2', ": number = 'two'")
    await dev.said(/src\/revision\.ts:1:14 Type 'string' is not assignable.*TS2322/)
    await dev.said(/does not compile: the driver from before goes on$/)
    t.same(await second.call('revision', {}), { value: 2 })
  })
  await t.test('and so does one that cannot be loaded', async (t) => {
    box.edit('src/revision.ts', ": number = 'two'", '= 3\nif (REVISION === 3) throw new Error("not today")')
    await dev.said(/compiles again$/)
    await dev.said(/the driver cannot be loaded, the one from before goes on: .*not today/)
    await dev.said(/at .*src\/revision\.ts:2:\d+/)
    t.same(await second.call('revision', {}), { value: 2 })
  })
  await t.test('a probe that fails leaves the model, and who opens the node is told', async (t) => {
    box.restore()
    box.edit('src/driver.ts', "'no box'", "'no box at all'")
    box.edit('src/driver.ts', '!== 0xb0c5', '=== 0xb0c5')
    await dev.said(/the driver does not come up: its probe failed: no box at all \(ERR_ACCEL_PROBE_FAILED\)$/)
    await dev.said(/at .*src\/driver\.ts:16:/)
    await t.rejects(dev.open(), {
      code: 'ERR_ACCEL_NO_DRIVER',
      message: /accel0 has no driver: .*no box at all/,
    })
    box.restore()
    await dev.said(/driver box was reloaded/)
    const third = await dev.open()
    t.same(await third.call('get', {}), kept)
    await third.close()
  })
  await t.test('a change of the uAPI is told', async () => {
    box.edit('src/uapi.ts', 'hang: cmd(0x43),', 'hang: cmd(0x43),\n    more: cmd(0x44),')
    box.edit('src/uapi.ts', 'version: 1', 'version: 2')
    box.edit('src/driver.ts', 'hang: () =>', 'more: () => ({}),\n        hang: () =>')
    await dev.said(/uAPI: box\.more is new, as 0x44$/)
    await dev.said(/driver box was reloaded/)
  })
  await t.test('a change of the model begins anew', async (t) => {
    box.edit('model/index.ts', "name: 'word'", "name: 'theWord'")
    await dev.said(/model box was started anew, since its files changed: what it knew is lost$/)
    await dev.said(/driver box was reloaded .*on a model that knows nothing$/)
    const last = await openAccel(commonUapi, 'accel0', { folder: dev.folder })
    t.equal((await last.common('attrShow', { path: 'value' })).value, '0')
    await last.close()
  })
  await t.test('a driver that ends by itself leaves the model', async () => {
    box.edit(
      'src/driver.ts',
      'more: () => ({})',
      'more: () => (setTimeout(() => { throw new Error("oops") }), {})',
    )
    await dev.said(/driver box was reloaded/)
    const client = await openAccel(commonUapi, 'accel0', { folder: dev.folder })
    await client.dispatch(0x44, new Uint8Array(0)).catch(() => {})
    await dev.said(/the driver ended by itself: .*oops/)
    await dev.said(/it is tried again when a file changes, or with r; the model keeps its state$/)
    box.edit('src/driver.ts', 'throw new Error("oops")', '')
    await dev.said(/driver box was reloaded .*the model kept its state$/)
  })

  const pids = family(dev.child.pid!)
  t.ok(pids.length >= 3, 'it, the model and the driver')
  const works = worksOf(pids)
  dev.child.kill('SIGINT')
  t.same(await once(dev.child, 'exit'), [0, null])
  await nothingLeft(t, dev, pids, works)
})

t.test('whoever ends it, and in whatever way, nothing is left', async (t) => {
  await Promise.all(
    (['SIGTERM', 'SIGKILL'] as const).map(async (signal) => {
      const dev = developing(t, devPackage(t, 'js'))
      await dev.said(/driver box runs/)
      const pids = family(dev.child.pid!)
      const works = worksOf(pids)
      const gone = once(dev.child, 'exit')
      dev.child.kill(signal)
      t.same(await gone, signal === 'SIGKILL' ? [null, signal] : [0, null])
      await nothingLeft(t, dev, pids, works)
    }),
  )
})

t.test('a driver that blocks its process is replaced, and ends with its parent', async (t) => {
  const box = devPackage(t, 'js')
  box.edit('src/driver.js', 'revision: () => ({', 'revision: () => { for (;;); return {')
  box.edit('src/driver.js', 'value: REVISION }),', 'value: REVISION } },')
  const dev = developing(t, box)
  await dev.said(/driver box runs/)
  const client = await dev.open()
  await client.call('put', { value: 5, data: Uint8Array.of() })
  client.call('revision', {}).catch(() => {})
  box.edit('src/revision.js', '1', '2')
  await dev.said(/driver box was reloaded \(1\).*the model kept its state$/)
  const next = await dev.open()
  t.match(await next.call('get', {}), { value: 5 })
  await dev.said(/command +get/)
  next.call('revision', {}).catch(() => {})
  const pids = family(dev.child.pid!)
  const works = worksOf(pids)
  dev.child.kill('SIGKILL')
  await nothingLeft(t, dev, pids, works)
})

t.test('plain JavaScript needs no compiler; a command is called each time', async (t) => {
  const box = devPackage(t, 'js')
  const dev = developing(
    t,
    box,
    '--no-trace',
    '--command',
    'revision',
    '--command',
    'put {"value":7,"data":"ff"}',
  )
  await dev.said(/revision answered \{"value":1\}$/)
  await dev.said(/put answered \{\}$/)
  box.edit('src/revision.js', '1', '5')
  await dev.said(/revision answered \{"value":5\}$/)
  t.notOk(
    dev.lines.some((line) => / device /.test(line)),
    'no trace',
  )
  dev.child.kill('SIGTERM')
  await once(dev.child, 'exit')
})

t.test('--once', async (t) => {
  const box = devPackage(t, 'js')
  const run = (path: string, ...flags: string[]) =>
    uaccel(['dev', path, '--once', '--folder', nodeFolder(t), ...flags])
  t.match(await run(box.folder, '--command', 'get'), {
    code: 0,
    stdout: '{"value":0,"data":"00000000"}\n',
    stderr:
      /device +read {2}word -> 0x00000000\n(.*\n)*my-box: came up, 1 command answered, removed cleanly\n$/,
  })
  t.match(await run(box.folder, '--command', 'nothing'), {
    code: 1,
    stdout: '',
    stderr: /nothing failed: box has no command/,
  })
  box.edit('src/driver.js', "reg32(0x04, 'rw')", "reg32(0x08, 'rw')")
  t.match(await run(box.folder), {
    code: 1,
    stderr:
      /device +violation: box: the driver did a read of 4 bytes at BAR0\+0x8; the model declares no register/,
  })
  box.edit('src/driver.js', 'async probe', 'async prove')
  t.match(await run(box.folder), { code: 1, stderr: /the driver cannot be loaded: .*is no driver/ })
  t.match(await run(join(box.folder, 'src')), {
    code: 3,
    stderr: /There is no .*src\/package\.json.*ERR_ACCEL_NOT_FOUND/,
  })
  t.match(await run(box.folder, '--command', 'get {'), { code: 1, stderr: /is no command/ })
  const edu = fileURLToPath(new URL('../../packages/driver-edu', import.meta.url))
  t.match(await run(edu, '--command', 'factorial {"n":5}', '--command', 'echo {"data":"c0ffee"}'), {
    code: 0,
    stdout: '{"value":120}\n{"data":"c0ffee"}\n',
    stderr: /device +dma +reads 3 bytes at 0x/,
  })
})

const ENTER = '\x1b[?1049h'
const LEAVE = '\x1b[?1049l'
const sequences = /\p{Cc}\[[?0-9;]*[A-Za-z]/gu
const linesOf = (frame: string) => frame.replace(sequences, '').split(/\r+\n/)

t.test('the screen: state, attributes, trace, keys', async (t) => {
  const box = devPackage(t, 'js')
  const folder = nodeFolder(t)
  const command = `stty cols 90 rows 24; tty; exec ${process.execPath} ${uaccelBin} dev ${box.folder} --folder ${folder}`
  const child: ChildProcess = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '', SHELL: '/bin/sh' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout!.setEncoding('utf8').on('data', (part) => {
    output += part
  })
  const exit = once(child, 'close')
  const frames = () => output.split('\x1b[H').slice(1)
  /** Waits for a frame, drawn after now, of which that is true. */
  const drawn = async (pattern: RegExp): Promise<string[]> => {
    const from = frames().length
    const found = await until(
      () => `${pattern} in ${frames().at(-2)}`,
      () =>
        frames()
          .slice(from, -1)
          .find((frame) => pattern.test(linesOf(frame).join('\n'))),
    )
    const lines = linesOf(found)
    for (const line of lines) t.ok(line.length <= 90, line)
    return lines
  }
  const press = (keys: string) => child.stdin!.write(keys)
  const lines = await drawn(
    /^driver running {2}box for .*^value = 0.*device {3}read {2}identity -> 0x0000b0c5$/ms,
  )
  t.equal(lines.length, 24)
  t.match(lines[0], /^uaccel dev {2}my-box {2}.*accel0 +\d\d:\d\d:\d\d$/)
  t.match(lines.join('\n'), /^model {2}running {2}box for .* process \d+ {2}started anew 0 x$/m)
  t.match(lines.join('\n'), /^ trace on *$/m)
  const client = await openAccel(boxUapi, 'accel0', { folder })
  await client.call('put', { value: 77, data: Uint8Array.of(9) })
  await drawn(/^driver .* 1 client[^s].*^value = 77.*write word = 0x0000004d/ms)
  t.ok(
    frames().some((frame) => /\p{Cc}\[33m\p{Cc}\[1mvalue = 77/u.test(frame)),
    'what changed is marked',
  )
  press('?')
  await drawn(/^r +load the driver anew/m)
  press('?fword')
  await drawn(/^filter: word_$/m)
  press('\r')
  const filtered = await drawn(/^ trace on {2}filter "word" *$/m)
  t.notOk(filtered.some((line) => line.includes('identity')))
  press('f\rtc')
  await drawn(/^ trace off *$/m)
  press('r')
  await drawn(/driver box was reloaded \(1\).*the model kept its state/m)
  t.match(await drawn(/^value = 77/m), /reloaded 1 x/)
  press('R')
  await drawn(/since you asked for it.*^/ms)
  await drawn(/^value = 0/m)
  execFileSync('stty', ['-F', output.split('\r\n')[0]!, 'cols', '40', 'rows', '10'])
  await until('a smaller screen', () => linesOf(frames().at(-2)!).length === 10)
  press('q')
  t.same(await exit, [0, null])
  t.ok(output.endsWith(`\x1b[?25h${LEAVE}`), 'the terminal is given back')
  t.equal(output.split(ENTER).length, 2)
  t.notOk(existsSync(join(folder, 'accel0')))
})

t.test('its node can be traced, by the names of the driver, beside its socket', async (t) => {
  const dev = developing(t, devPackage(t, 'js'))
  await dev.said(/driver box runs/)
  const tracing = start(['trace', 'accel0', '--folder', dev.folder, '--mmio'])
  t.teardown(() => tracing.kill('SIGKILL'))
  let traced = ''
  tracing.stdout!.setEncoding('utf8').on('data', (text) => {
    traced += text
  })
  const ring = join(dev.folder, 'accel0.trace')
  await until('the ring', () => existsSync(ring))
  const client = await dev.open()
  await client.call('put', { value: 0x5eed, data: Uint8Array.of() })
  await until(
    () => `a line of the trace in ${traced}`,
    () => /VALUE <- 0x00005eed/.test(traced),
  )
  const gone = once(tracing, 'exit')
  tracing.kill('SIGINT')
  t.same(await gone, [0, null])
  await until('the end of the ring', () => !existsSync(ring))
  await client.close()
  dev.child.kill('SIGTERM')
  await once(dev.child, 'exit')
})

t.test('a command that is never answered does not keep a driver from being replaced', async (t) => {
  const box = devPackage(t, 'js')
  const dev = developing(t, box, '--command', 'hang', '--command', 'revision')
  await dev.said(/driver box runs/)
  box.edit('src/revision.js', '1', '2')
  await dev.said(/driver box was reloaded \(1\).*the model kept its state$/)
  box.edit('src/driver.js', 'hang: () => new Promise(() => {}),', 'hang: () => ({}),')
  await dev.said(/hang answered \{\}$/)
  await dev.said(/revision answered \{"value":2\}$/)
  dev.child.kill('SIGTERM')
  t.same(await once(dev.child, 'exit'), [0, null])
})

t.test('--once does not call a removal clean that had to be forced', async (t) => {
  const box = devPackage(t, 'js')
  box.edit('src/driver.js', 'const card =', 'dev.defer(() => { for (;;); })\n    const card =')
  t.match(await uaccel(['dev', box.folder, '--once', '--folder', nodeFolder(t)]), {
    code: 1,
    stderr: /the driver did not end within 5 s, and was killed/,
  })
})

t.test('where the model cannot be started, who opens the node is told', async (t) => {
  const box = devPackage(t, 'js')
  const dev = developing(t, box)
  await dev.said(/driver box runs/)
  box.edit('model/index.js', 'export const', 'throw new Error("no model today")\nexport const')
  await dev.said(/the model could not be started: .*no model today/)
  await t.rejects(openAccel(boxUapi, 'accel0', { folder: dev.folder, timeoutMs: 5_000 }), {
    code: 'ERR_ACCEL_NO_DRIVER',
    message: /accel0 has no driver: .*no model today/,
  })
  box.restore()
  await dev.said(/driver box was reloaded/)
  const client = await dev.open()
  t.same(await client.call('revision', {}), { value: 1 })
  await client.close()
  dev.child.kill('SIGTERM')
  await once(dev.child, 'exit')
})
