import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

// `uaccel reg dump` on models behind vfio-user, each in a process of its own.

t.setTimeout(200_000)

const root = fileURLToPath(new URL('../../', import.meta.url))
const cli = join(root, 'packages/cli/bin/uaccel.mjs')
const folder = mkdtempSync(join(tmpdir(), 'dump-'))
t.teardown(() => rmSync(folder, { recursive: true }))

function uaccel(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...words], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

async function serve(name: string): Promise<string> {
  const socket = join(folder, `${name}.sock`)
  const server = spawn(process.execPath, [cli, 'model', name, '--socket', socket])
  t.teardown(async () => {
    server.kill()
    await once(server, 'exit')
  })
  await once(server.stderr, 'data')
  return socket
}

const edu = await serve('edu')

t.test('edu: dumped, saved, compared', async (t) => {
  const saved = join(folder, 'good.json')
  const all = uaccel('reg', 'dump', edu, '--save', saved)
  t.equal(all.status, 0, all.stderr)
  t.match(all.stdout, 'ID = 0x010000ed  major=1  minor=0  tag=237\n')
  t.notMatch(all.stdout, 'IRQ_ACK', 'what can only be written is not read')
  t.match(all.stderr, '9 registers are in')
  t.match(JSON.parse(readFileSync(saved, 'utf8')), {
    schema: 'uaccel.reg-dump/1',
    registers: [{ bar: 0, name: 'ID', offset: 0, width: 32, value: '0x010000ed' }],
  })

  const same = uaccel('reg', 'dump', edu, '--diff', saved)
  t.match(same, { status: 0, stdout: '', stderr: 'no difference in 9 registers\n' })

  const dump = JSON.parse(readFileSync(saved, 'utf8'))
  const change = (name: string, value: string) =>
    Object.assign(
      dump.registers.find((one: { name: string }) => one.name === name),
      { value },
    )
  change('STATUS', '0x00000090')
  change('DMA_COMMAND', '0x8000000000000003')
  change('FACTORIAL', '0x00000007')
  dump.registers.push({ bar: 0, name: 'GONE', offset: 4, width: 32, value: '0x0' })
  const other = join(folder, 'other.json')
  writeFileSync(other, JSON.stringify(dump))
  const differs = uaccel('reg', 'dump', edu, '--diff', other)
  t.equal(differs.status, 0)
  t.equal(
    differs.stdout,
    [
      'FACTORIAL  0x00000007 -> 0x00000000',
      'STATUS  0x00000090 -> 0x00000000  irqOnDone: true -> false  bit 4: 0x1 -> 0x0',
      'DMA_COMMAND  0x8000000000000003 -> 0x0000000000000000  start: true -> false  toRam: true -> false  bit 63: 0x1 -> 0x0',
      '',
    ].join('\n'),
  )
  t.match(differs.stderr, '3 of 9 registers differ')
  t.match(differs.stderr, 'only in ')
  const json = JSON.parse(uaccel('reg', 'dump', edu, '--diff', other, '--json').stdout)
  t.match(json[1], {
    name: 'STATUS',
    expected: '0x00000090',
    fields: [{ name: 'irqOnDone', expected: true, found: false }, { name: 'bit 4' }],
  })
})

t.test('edu: against the reset values of an imported map', async (t) => {
  const map = join(root, 'test/register-files/edu.rdl')
  const clean = uaccel('reg', 'dump', edu, '--map', map, '--diff')
  t.match(clean, { status: 0, stdout: '' })
  t.match(clean.stderr, 'without a reset value in the map: LIVENESS')
  t.match(clean.stderr, 'no difference in 8 registers')
  const wrong = join(folder, 'wrong.rdl')
  writeFileSync(wrong, readFileSync(map, 'utf8').replace("8'h01", "8'h02"))
  const differs = uaccel('reg', 'dump', edu, '--map', wrong, '--diff')
  t.equal(differs.stdout, 'ID  0x020000ed -> 0x010000ed  major: 2 -> 1\n')
  const without = uaccel('reg', 'dump', edu, '--diff')
  t.equal(without.status, 3, "the driver's own map has no reset values")
  t.match(without.stderr, 'Nothing could be compared: the map has no reset value of these registers')
})

t.test('a map that begins elsewhere in the BAR, for all commands', async (t) => {
  const map = join(folder, 'blocks.rdl')
  const register = (name: string, at: number) => `reg { field { sw=rw; } all[32]; } ${name} @${at};`
  writeFileSync(
    map,
    `addrmap blocks { regfile { ${register('ID', 0)} ${register('LIVE', 4)} } low @0; regfile { ${register('STAT', 0)} } high @32; };`,
  )
  uaccel('reg', 'write', edu, 'STATUS', '0x80')
  const high = ['--map', map, '--block', 'high', '--offset', '0x20']
  t.match(uaccel('reg', 'read', edu, 'STAT', ...high), { status: 0, stdout: 'STAT = 0x00000000  all=0\n' })
  t.equal(uaccel('reg', 'dump', edu, ...high).stdout, 'STAT = 0x00000000  all=0\n')
  const all = uaccel('reg', 'dump', edu, '--map', map).stdout
  t.equal(
    all,
    'LOW_ID = 0x010000ed  all=16777453\nLOW_LIVE = 0x00000000  all=0\nHIGH_STAT = 0x00000000  all=0\n',
  )
  const written = uaccel('reg', 'write', edu, 'LOW_LIVE', '1', '--read', 'LOW_LIVE', '--map', map)
  t.equal(written.stdout, 'LOW_LIVE = 0xfffffffe  all=4294967294\n')
  t.match(JSON.parse(uaccel('reg', 'list', edu, '--json', ...high).stdout), [{ name: 'STAT', offset: 0x20 }])
})

t.test('what of a file is not in the map is told', async (t) => {
  const map = join(folder, 'alternates.svd')
  const register = (name: string, more = '') =>
    `<register><name>${name}</name>${more}<addressOffset>0</addressOffset></register>`
  writeFileSync(
    map,
    `<device><name>d</name><width>32</width><size>32</size><access>read-write</access><peripherals><peripheral><name>P</name>
    <baseAddress>0</baseAddress><registers>${register('A')}${register('B', '<alternateRegister>A</alternateRegister>')}</registers>
    </peripheral></peripherals></device>`,
  )
  const dumped = uaccel('reg', 'dump', edu, '--map', map)
  t.equal(dumped.stdout, 'A = 0x010000ed\n')
  t.match(dumped.stderr, /left out are PAlternateRegisters, at the same places/)
})

t.test('npu: registers that reading clears are left alone', async (t) => {
  const socket = await serve('npu')
  const left = uaccel('reg', 'dump', socket)
  t.equal(left.status, 0, left.stderr)
  t.notMatch(left.stdout, 'QUEUE_EVENTS =')
  t.match(left.stderr, 'A register that reading clears is left out: QUEUE_EVENTS; --with-rc reads them')
  t.match(left.stdout, 'QUEUE[15].WINDOW[7].PERM = ')
  const asked = uaccel('reg', 'dump', socket, '--with-rc')
  t.match(asked.stdout, 'QUEUE_EVENTS = 0x00000000\n')
  const module = join(root, 'packages/driver-npu/dist/src/registers.js')
  t.equal(
    uaccel('reg', 'dump', socket, '--map', module).stdout,
    left.stdout,
    'a compiled module has the same map',
  )
})

t.test('what cannot be', async (t) => {
  const refused = (status: number, message: RegExp, ...words: string[]) => {
    const result = uaccel('reg', 'dump', edu, ...words)
    t.equal(result.status, status, result.stderr)
    t.match(result.stderr, message)
  }
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  refused(3, /no such file.*NOT_FOUND/s, '--diff', join(folder, 'none.json'))
  refused(1, /it is no JSON.*INVALID_ARGUMENT/s, '--diff', file('a.json', '{'))
  refused(1, /schema is not/, '--diff', file('b.json', 'null'))
  const register = (one: object) => JSON.stringify({ schema: 'uaccel.reg-dump/1', registers: [one] })
  refused(1, /its register 0 has not the form/, '--diff', file('c.json', register({ name: 'ID' })))
  const mixed = JSON.parse(register({ bar: 0, name: 'ID', offset: 0, width: 32, value: '0x1' }))
  mixed.registers.push({ bar: 0, name: 'X\u001b[31m', offset: 0, width: 32, value: '0x1' })
  const told = uaccel('reg', 'dump', edu, '--diff', file('f.json', JSON.stringify(mixed)))
  t.match(told.stderr, /only in .*X/)
  t.notMatch(told.stderr, '\u001b')
  const moved = { bar: 0, name: 'ID', offset: 8, width: 32, value: '0x1' }
  refused(1, /another map/, '--diff', file('d.json', register(moved)))
  refused(3, /NOT_FOUND/, '--save', join(folder, 'none', 'x.json'))
  refused(1, /compile it/, '--map', 'registers.ts')
  refused(3, /NOT_FOUND/, '--map', join(folder, 'none.js'))
  refused(
    1,
    /2 register maps: name one with --block; there are UART0, UART1/,
    '--map',
    join(root, 'test/register-files/uart16550.svd'),
  )
  refused(2, /A BAR is 0 to 5/, '--bar', '7')
  refused(2, /Bytes are wanted/, '--offset', '1k')
  for (const [option, value] of Object.entries({ bar: '1', block: 'x' }))
    refused(1, /name its file with --map.*INVALID_ARGUMENT/s, `--${option}`, value)
})
