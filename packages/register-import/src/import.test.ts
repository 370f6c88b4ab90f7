import type { RegisterEntry } from '@uaccel/core'
import t from 'tap'
import {
  descriptionJson,
  type PlannedMap,
  type PlanOptions,
  planBlock,
  readRegisterText,
  selectBlocks,
  toRegisterMap,
  writeTypeScript,
} from './index.js'

interface Imported {
  readonly maps: readonly PlannedMap[]
  readonly warnings: readonly string[]
  readonly text: string
  /** The registers of all maps, each as `offset name access`. */
  readonly entries: readonly string[]
  readonly find: (name: string) => RegisterEntry
}

function imported(file: string, text: string, options: PlanOptions = {}, ...blocks: string[]): Imported {
  const description = readRegisterText(file, text)
  const warnings = description.warnings.map(({ message }) => message)
  const maps = selectBlocks(description, blocks).flatMap((block) =>
    planBlock(block, ({ message }) => warnings.push(message), options),
  )
  const entries = maps.flatMap((map) => [...toRegisterMap(map).entries])
  return {
    maps,
    warnings,
    text: writeTypeScript(description, file, maps),
    entries: entries.map(({ offset, name, access }) => `${offset} ${name} ${access}`),
    find: (name) => entries.find((entry) => entry.name === name)!,
  }
}

const rdl = (body: string, ...blocks: string[]): Imported =>
  imported('m.rdl', `addrmap m { ${body} };`, {}, ...blocks)
const svd = (registers: string, options: PlanOptions = {}): Imported =>
  imported(
    'm.svd',
    `<device><name>d</name><peripherals><peripheral><name>m</name><baseAddress>16</baseAddress><registers>${registers}</registers></peripheral></peripherals></device>`,
    options,
  )

t.test('access kinds', async (t) => {
  const kinds = (...fields: string[]) =>
    rdl(`reg { ${fields.map((one, i) => `field { ${one} } f${i};`).join(' ')} } A;`).entries
  for (const [fields, wanted] of [
    [['sw = r;'], ['A ro']],
    [['sw = w;'], ['A wo']],
    [['sw = rw;', 'sw = r;', 'sw = w;'], ['A rw']],
    [['sw = rw; woclr;', 'sw = r;'], ['A w1c']],
    [['sw = rw; onwrite = woclr;', 'sw = rw; woclr;'], ['A w1c']],
    [['sw = r; rclr;'], ['A rc']],
    [['sw = r; rset;'], ['A rc']],
    [['sw = r; swacc;'], ['A rc']],
    [['sw = r; swacc = false;'], ['A ro']],
    [['sw = na;', 'sw = r;'], ['A ro']],
    [
      ['sw = rw; woclr;', 'sw = rw;'],
      ['A ro', 'A_WRITE wo'],
    ],
    [['sw = rw; woset;'], ['A ro', 'A_WRITE wo']],
    [['sw = rw; onwrite = wot;'], ['A ro', 'A_WRITE wo']],
    [['sw = rw; onwrite = wzc;'], ['A ro', 'A_WRITE wo']],
    [['sw = rw; onwrite = wclr;'], ['A ro', 'A_WRITE wo']],
    [['sw = rw1;'], ['A ro', 'A_WRITE wo']],
    [['sw = w1;'], ['A wo']],
    [['sw = rw; rclr;'], ['A rc', 'A_WRITE wo']],
  ] as const)
    t.same(
      kinds(...fields),
      wanted.map((one) => `0 ${one}`),
      fields.join(' + '),
    )
  t.same(rdl('reg { field { sw = na; } f; } A; reg { field {} f; } B;').entries, ['4 B rw'], 'none at all')
  const split = rdl('reg { field { desc = "Start."; woset; } go; field {} mode[4]; } CTRL;')
  t.match(split.warnings, [/go: a written one sets it; CTRL is to read it, CTRL_WRITE to write it/])
  t.match(split.text, /Start\.\n\s+\* A written one sets it\./)
  t.match(split.text, /Written as CTRL_WRITE\./)
})

t.test('the same words in the two formats of XML', async (t) => {
  const one = (rest: string) => `<register><name>A</name><addressOffset>0</addressOffset>${rest}</register>`
  const ipxact = (rest: string) =>
    imported(
      'm.xml',
      `<spirit:component xmlns:spirit="http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"><spirit:name>c</spirit:name><spirit:memoryMaps><spirit:memoryMap><spirit:name>m</spirit:name><spirit:addressBlock><spirit:name>b</spirit:name><spirit:baseAddress>0</spirit:baseAddress><spirit:register><spirit:name>A</spirit:name><spirit:addressOffset>0x0</spirit:addressOffset><spirit:size>32</spirit:size><spirit:field><spirit:name>f</spirit:name><spirit:bitOffset>0</spirit:bitOffset><spirit:bitWidth>1</spirit:bitWidth>${rest}</spirit:field></spirit:register></spirit:addressBlock></spirit:memoryMap></spirit:memoryMaps></spirit:component>`,
    ).entries
  for (const [words, wanted] of [
    [{ access: 'read-only' }, ['A ro']],
    [{ access: 'write-only' }, ['A wo']],
    [{ access: 'writeOnce' }, ['A wo']],
    [{ access: 'read-writeOnce' }, ['A ro', 'A_WRITE wo']],
    [{ modified: 'oneToClear' }, ['A w1c']],
    [{ modified: 'zeroToSet' }, ['A ro', 'A_WRITE wo']],
    [{ modified: 'modify' }, ['A rw']],
    [{ access: 'read-only', action: 'clear' }, ['A rc']],
    [{ access: 'read-only', action: 'modify' }, ['A rc']],
    [{ action: 'set' }, ['A rc', 'A_WRITE wo']],
  ] as const) {
    const { access, modified, action } = words as { access?: string; modified?: string; action?: string }
    const said = (prefix: string, written: string) =>
      [
        access ? `<${prefix}access>${access}</${prefix}access>` : '',
        modified ? `<${prefix}${written}>${modified}</${prefix}${written}>` : '',
        action ? `<${prefix}readAction>${action}</${prefix}readAction>` : '',
      ].join('')
    const expected = wanted.map((kind) => `0 ${kind}`)
    t.same(svd(one(said('', 'modifiedWriteValues'))).entries, expected, JSON.stringify(words))
    t.same(ipxact(said('spirit:', 'modifiedWriteValue')), expected, JSON.stringify(words))
  }
})

t.test('IP-XACT: what 2022 has its own way, several blocks, parameters', async (t) => {
  const component = (year: number, content: string) =>
    imported(
      'm.xml',
      `<component xmlns="http://www.accellera.org/XMLSchema/IPXACT/1685-${year}"><name>c</name>${content}</component>`,
    )
  const map = (content: string) => `<memoryMaps><memoryMap><name>m</name>${content}</memoryMap></memoryMaps>`
  const block = (name: string, base: string, content: string) =>
    `<addressBlock><name>${name}</name><baseAddress>${base}</baseAddress><width>32</width>${content}</addressBlock>`
  const newest = component(
    2022,
    map(
      block(
        'b',
        '0',
        `<register><name>R</name><array><dim>2</dim><stride>8</stride></array><addressOffset>'h10</addressOffset><size>32</size>
<accessPolicies><accessPolicy><access>read-only</access></accessPolicy></accessPolicies>
<field><name>f</name><bitOffset>0</bitOffset><bitWidth>2</bitWidth></field></register>
<register><name>S</name><addressOffset>'h0</addressOffset><size>32</size>
<field><name>g</name><bitOffset>3</bitOffset><bitWidth>1</bitWidth><resets><reset><value>1</value></reset></resets><fieldAccessPolicies><fieldAccessPolicy>
<access>read-write</access><modifiedWriteValue>oneToClear</modifiedWriteValue></fieldAccessPolicy></fieldAccessPolicies></field></register>`,
      ),
    ),
  )
  t.same(newest.entries, ['0 S w1c', '16 R[0] ro', '24 R[1] ro'])
  t.same(newest.find('S').reset, { value: 8n, mask: 8n })

  const register = (offset: string, rest = '') =>
    `<register><name>R</name><addressOffset>${offset}</addressOffset><size>W</size>${rest}</register>`
  const two = component(
    2014,
    map(block('first', "'h100", register('2*W/8')) + block('second', '4K', register('0'))) +
      '<parameters><parameter parameterId="W"><name>width</name><value>V + 8</value></parameter><parameter parameterId="V"><name>v</name><value>8</value></parameter></parameters>',
  )
  t.same(two.entries, ['260 FIRST_R rw', '4096 SECOND_R rw'])
  t.equal(two.find('FIRST_R').width, 16)
  const alternate = `<alternateRegisters><alternateRegister><name>Q</name><access>read-only</access></alternateRegister></alternateRegisters>`
  const same = component(2014, map(block('b', '0', register('0', alternate).replace('W', '8'))))
  t.same(
    same.maps.map(({ name, members }) => [name, members.map((one) => one.name)]),
    [
      ['MRegisters', ['R']],
      ['MAlternateRegisters', ['Q']],
    ],
  )
  const narrow = component(2014, map(block('b', '0', register('0').replace('W', '5'))))
  t.equal(narrow.find('R').width, 32)
  t.match(narrow.warnings, [/it has 5 bits: here it has the 32 of its bus/])
})

t.test('CMSIS-SVD: arrays, lists, what is derived, alternates', async (t) => {
  const register = (name: string, offset: number, rest = '') =>
    `<register><name>${name}</name><addressOffset>${offset}</addressOffset>${rest}</register>`
  const dim = (count: number, index = '') =>
    `<dim>${count}</dim><dimIncrement>4</dimIncrement>${index ? `<dimIndex>${index}</dimIndex>` : ''}`
  t.same(svd(register('A[%s]', 0, dim(2))).entries, ['0 A[0] rw', '4 A[1] rw'])
  t.same(svd(register('A%s', 0, dim(2))).entries, ['0 A[0] rw', '4 A[1] rw'], 'a list that counts from 0')
  t.same(svd(register('A%s', 0, dim(2, '1-2'))).entries, ['0 A1 rw', '4 A2 rw'])
  t.same(svd(register('A%s_X', 0, dim(2, 'P,Q'))).entries, ['0 AP_X rw', '4 AQ_X rw'])
  t.same(svd(register('A%s', 0, dim(3, 'B-D'))).entries, ['0 AB rw', '4 AC rw', '8 AD rw'])
  const shifted = svd(register('A[%s]', 0, dim(2, '4-5')))
  t.same(
    [shifted.entries, shifted.warnings.length],
    [['0 A[0] rw', '4 A[1] rw'], 1],
    'told that indices change',
  )

  const derived = svd(
    `${register('A', 0, '<size>16</size><access>read-only</access><fields><field><name>F</name><bitRange>[3:1]</bitRange></field></fields>')}
<register derivedFrom="A"><name>B</name><addressOffset>2</addressOffset><access>read-write</access></register>
<cluster><name>C</name><addressOffset>8</addressOffset><register derivedFrom="m.A"><name>D</name><addressOffset>0</addressOffset></register></cluster>
<cluster derivedFrom="C"><name>E</name><addressOffset>16</addressOffset></cluster>`,
  )
  t.same(derived.entries, ['0 A ro', '2 B rw', '8 C_D ro', '16 E_D ro'])
  t.same(derived.find('E_D').fields, derived.find('A').fields)
  t.equal(derived.find('B').width, 16)

  const both = register('A', 0) + register('B', 0)
  t.same(svd(both, { overlaps: true }).entries, ['0 A rw', '0 B rw'])
  t.same(
    svd(both, { overlaps: true }).maps.map(({ name }) => name),
    ['MRegisters', 'MAlternateRegisters'],
  )
  const alternates = svd(
    register('A', 0) +
      register('B', 0, '<alternateRegister>A</alternateRegister>') +
      register('C', 4, '<alternateRegister>X</alternateRegister>'),
  )
  t.same(
    alternates.maps.map(({ members }) => members.map(({ name }) => name)),
    [['A', 'C'], ['B']],
    'only where the place is taken',
  )
  t.same(
    svd(register('R', 0, '<access>read-only</access>') + register('W', 0, '<access>write-only</access>'))
      .entries,
    ['0 R ro', '0 W wo'],
  )
})

t.test('SystemRDL: addresses', async (t) => {
  const offsets = (body: string) => rdl(body).entries.map((entry) => entry.replace(/ \w+$/, ''))
  const r = 'reg r { field {} f; }; reg r64 { regwidth = 64; field {} f; };'
  t.same(offsets(`${r} r A; r B @ 0x10; r C; r D %= 0x20;`), ['0 A', '16 B', '20 C', '32 D'])
  t.same(offsets(`${r} r A; r64 B; r C;`), ['0 A', '8 B', '16 C'], 'regalign: to its own size')
  t.same(offsets(`${r} addressing = compact; r64 X; r A; r64 B;`), ['0 X', '8 A', '16 B'])
  t.same(offsets(`${r} addressing = compact; r A; regfile { r P; r Q; } F; r B;`), [
    '0 A',
    '4 F_P',
    '8 F_Q',
    '12 B',
  ])
  t.same(
    offsets(`${r} r A; regfile { r P; r Q; r S; } F; r B;`),
    ['0 A', '16 F_P', '20 F_Q', '24 F_S', '28 B'],
    'sizes are rounded up',
  )
  t.same(offsets(`${r} addressing = fullalign; r A; r B[3];`), ['0 A', '16 B[0]', '20 B[1]', '24 B[2]'])
  t.same(offsets(`${r} alignment = 8; r A; r B; r C;`), ['0 A', '8 B', '16 C'])
  t.same(offsets(`${r} r A[2] += 16; r B;`), ['0 A[0]', '16 A[1]', '20 B'])
  t.same(offsets('reg { accesswidth = 8; field {} f; } A; default regwidth = 8; reg { field {} f; } B, C;'), [
    '0 A',
    '4 B',
    '5 C',
  ])
  const two = rdl(`${r} r A[2][3];`)
  t.equal(two.entries.length, 6)
  t.match(two.warnings, [/2 dimensions of A, 2 by 3, are one of 6/])
  t.same(
    rdl(`${r} regfile f { r A; r B; }; f X @ 0x40; f Y @ 0x80;`, 'm.Y').entries,
    ['0 A rw', '4 B rw'],
    'one block',
  )
})

t.test('SystemRDL: scopes, parameters, properties', async (t) => {
  const fields = (body: string, register = 'A') =>
    Object.entries(rdl(body).find(register).fields).map(([name, { hi, lo }]) => `${name} ${hi}:${lo}`)
  t.same(fields('reg { field {} a; field {} b[3]; field {} c[15:8]; field {} d[2]; } A;'), [
    'd 17:16',
    'c 15:8',
    'b 3:1',
    'a 0:0',
  ])
  t.same(fields('msb0; reg { field {} a; field {} b[3]; } A;'), ['a 31:31', 'b 30:28'])
  t.same(fields('reg { field { fieldwidth = 4; } a; } A;'), ['a 3:0'])
  t.same(
    fields('reg r #(longint unsigned N = 3, bit W = N * 2) { field {} a[N]; field {} b[W]; }; r #(.N(5)) A;'),
    ['b 14:5', 'a 4:0'],
  )
  const late = rdl('reg r { field {} f; }; default sw = r; reg { field {} f; } A; r B;')
  t.same(late.entries, ['0 A ro', '4 B rw'], 'defaults are those of where a component is defined')
  const inner = rdl('default sw = r; reg { default sw = w; field {} f; } A; reg { field {} f; } B;')
  t.same(inner.entries, ['0 A wo', '4 B ro'], 'an inner default ends the outer')
  const dynamic = rdl(
    'regfile f { reg { field { sw = rw; } f; } R; }; f X, Y; Y.R.f->sw = r; Y.R.f->reset = 1;',
  )
  t.same(dynamic.entries, ['0 X_R rw', '4 Y_R ro'], 'of one instance, not of its type')
  t.same(dynamic.find('Y_R').reset, { value: 1n, mask: 1n })
  t.same(rdl('reg { field {} f; } A; reg { field {} f; } B; A->ispresent = 1 == 2;').entries, ['4 B rw'])
  const signals = rdl(
    'signal { activelow; } rst; default resetsignal = rst; reg { field { we = rst; level intr; counter; } f = 0; field {} g; g->reset = f; } A;',
  )
  t.same(signals.find('A').reset, { value: 0n, mask: 1n })
  t.match(signals.warnings, [/reset of A.g is another signal/])
  const enums = rdl(
    'enum e { a = 1; b { desc = "Second."; }; c = 7; }; reg { field { encode = e; } f[3]; } A;',
  )
  t.match(enums.find('A').fields, { f: { kind: 'choice', choices: { a: 1, b: 2, c: 7 } } })
  t.match(enums.text, '- b: Second.')
  const text = rdl(
    'desc = "A [b]bold[/b][br]\n   word."; mem { mementries = 4; memwidth = 32; } external M @ 0x100; reg { field {} f; } A;',
  )
  t.match(text.text, 'm: A bold word.')
  t.match(text.warnings, [/the memory M is left out/])
  const conditions = imported(
    'm.rdl',
    '`define ON\n`ifdef OFF\n nonsense {\n`elsif ON\n addrmap m { reg { field {} f; } A; };\n`else\n more\n`endif\n',
  )
  t.same(conditions.entries, ['0 A rw'])
})

t.test('names', async (t) => {
  const names = rdl(
    'reg r { field {} class; }; r TxFifo_level, DMACtrl, irq, \\default, __proto__, irq2; r \\IRQ;',
  )
  t.same(
    names.entries.map((entry) => entry.split(' ')[1]),
    ['TX_FIFO_LEVEL', 'DMA_CTRL', 'IRQ', 'DEFAULT', 'PROTO', 'IRQ2', 'IRQ_2'],
  )
  t.match(names.warnings, [/IRQ: the name IRQ is taken, here it is IRQ_2/])
  const odd = imported(
    'm.svd',
    '<device><name>d</name><peripherals><peripheral><name>0-é x</name><baseAddress>0</baseAddress><registers><register><name>1 ST/CTRL</name><addressOffset>0</addressOffset><fields><field><name>__proto__</name><bitRange>[0:0]</bitRange></field><field><name>2nd</name><bitRange>[1:1]</bitRange></field><field><name>***</name><bitRange>[2:2]</bitRange></field></fields></register></registers></peripheral></peripherals></device>',
  )
  t.same(odd.entries, ['0 _1_ST_CTRL rw'])
  t.same(Object.keys(odd.find('_1_ST_CTRL').fields), ['_', '_2nd', 'proto'])
  t.match(odd.text, 'export const _0XRegisters')
})

t.test('wide fields, and the description as JSON', async (t) => {
  const wide = rdl(
    'reg { regwidth = 64; field { desc = "Where."; } address[63:4]; field {} on[0:0] = 1; } A;',
  )
  t.same(Object.keys(wide.find('A').fields), ['on'])
  t.match(wide.warnings, [/field address of A has 60 bits/])
  t.match(wide.text, 'Bits 63:4: address, Where.')
  const json = JSON.parse(
    descriptionJson(readRegisterText('m.rdl', 'addrmap m { reg { field {} f[4] = 5; } A @ 8; };')),
  )
  t.match(json, {
    schema: 'uaccel.registers/1',
    format: 'rdl',
    blocks: [
      {
        name: 'm',
        members: [
          {
            kind: 'register',
            name: 'A',
            offset: 8,
            width: 32,
            place: { file: 'm.rdl', line: 1 },
            reset: { value: '0x5', mask: '0xf' },
            fields: [{ name: 'f', hi: 3, lo: 0, access: { read: 'plain', write: 'plain', once: false } }],
          },
        ],
      },
    ],
  })
})
