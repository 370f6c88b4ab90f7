import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ErrorCode, isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { planBlock, readRegisterFile, readRegisterText, toRegisterMap, writeTypeScript } from './index.js'

const folder = mkdtempSync(join(tmpdir(), 'registers-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** All that an import does. */
function imported(file: string, text: string): string {
  const description = readRegisterText(file, text)
  const maps = description.blocks.flatMap((block) => planBlock(block, () => undefined))
  maps.map(toRegisterMap)
  return writeTypeScript(description, file, maps)
}

const svd = (registers: string, extra = ''): string =>
  `<device>\n<name>d</name>${extra}<peripherals><peripheral><name>p</name><baseAddress>0</baseAddress>\n<registers>${registers}</registers></peripheral></peripherals></device>`
const svdRegister = (name: string, offset: string, rest = ''): string =>
  `\n<register><name>${name}</name><addressOffset>${offset}</addressOffset>${rest}</register>`
const ipxact = (content: string): string =>
  `<ipxact:component xmlns:ipxact="http://www.accellera.org/XMLSchema/IPXACT/1685-2014">\n<ipxact:name>c</ipxact:name>${content}</ipxact:component>`
const rdl = (body: string): string => `addrmap m {\n${body}\n};`

const refused = (
  t: {
    equal(a: unknown, b: unknown, name: string): unknown
    match(a: string, b: RegExp, name: string): unknown
    fail(name: string): unknown
  },
  name: string,
  file: string,
  text: string,
  code: ErrorCode,
  message: RegExp,
): void => {
  try {
    imported(file, text)
    t.fail(`${name} was taken`)
  } catch (error) {
    if (!isAccelError(error)) throw error
    t.equal(error.code, code, name)
    t.match(error.message, message, name)
    t.match(error.message, /^\S+:\d+:\d+: /, `${name}: the place is named`)
  }
}

const INVALID = 'ERR_ACCEL_INVALID_ARGUMENT'
const RANGE = 'ERR_ACCEL_OUT_OF_RANGE'
const UNSUPPORTED = 'ERR_ACCEL_UNSUPPORTED'

t.test('XML that is none, or more than it seems', async (t) => {
  const bomb = `<!DOCTYPE device [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n${svd(svdRegister('A', '&b;'))}`
  refused(t, 'an entity bomb', 'a.svd', bomb, UNSUPPORTED, /entities/)
  const outside = `<!DOCTYPE device SYSTEM "x.dtd" [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>\n<device/>`
  refused(t, 'an external entity', 'a.svd', outside, UNSUPPORTED, /entities/)
  refused(
    t,
    'an undeclared entity',
    'a.svd',
    '<device>&x;</device>',
    INVALID,
    /^a.svd:1:\d+: not well-formed/,
  )
  refused(t, 'cut off', 'a.svd', svd(svdRegister('A', '0')).slice(0, 90), INVALID, /not well-formed/)
  refused(t, 'a wrong root', 'a.svd', '<html><body/></html>', INVALID, /neither a <device>/)
  refused(t, 'no XML', 'a.svd', 'addrmap m {};', INVALID, /does not begin as XML/)
  refused(t, 'nothing of ours', 'passwd', 'root:x:0:0:root', INVALID, /no SystemRDL, IP-XACT or CMSIS-SVD/)
  refused(t, 'empty', 'a.svd', '', INVALID, /does not begin as XML/)
  refused(t, 'no peripherals', 'a.svd', '<device><name>d</name></device>', INVALID, /no <peripherals>/)
  refused(
    t,
    'deep',
    'a.svd',
    `<device>${'<a>'.repeat(100)}${'</a>'.repeat(100)}</device>`,
    UNSUPPORTED,
    /deep/,
  )
  refused(
    t,
    'another namespace',
    'a.xml',
    '<component xmlns="urn:x"><name>c</name></component>',
    UNSUPPORTED,
    /namespace/,
  )
  refused(t, 'no memory map', 'a.xml', ipxact(''), INVALID, /^a.xml:1:1: .*no <memoryMaps>/)
})

t.test('numbers and places', async (t) => {
  refused(
    t,
    'no number',
    'a.svd',
    svd(svdRegister('A', 'twelve')),
    INVALID,
    /^a.svd:4:1: addressOffset "twelve"/,
  )
  refused(
    t,
    'past 2^53',
    'a.svd',
    svd(svdRegister('A', '0x20000000000000')),
    RANGE,
    /^a.svd:4:1: addressOffset/,
  )
  const far = svdRegister('A[%s]', '0', '<dim>3</dim><dimIncrement>0x10000000000000</dimIncrement>')
  refused(t, 'past 2^53 by its stride', 'a.svd', svd(far), RANGE, /^a.svd:4:1: .*2\^53/)
  const dims = (count: string) =>
    svdRegister('A[%s]', '0', `<dim>${count}</dim><dimIncrement>4</dimIncrement>`)
  refused(t, 'a huge dim', 'a.svd', svd(dims('4000000000')), RANGE, /^a.svd:4:1: dim is 4000000000/)
  refused(t, 'no dim', 'a.svd', svd(dims('0')), RANGE, /dim is 0/)
  const nested = `<cluster><name>C[%s]</name><addressOffset>0</addressOffset><dim>100000</dim><dimIncrement>0x100000</dimIncrement>${dims('100000')}</cluster>`
  refused(t, 'dims in dims', 'a.svd', svd(nested), RANGE, /more than 262144 registers/)
  refused(
    t,
    'an overlap',
    'a.svd',
    svd(svdRegister('A', '0') + svdRegister('B', '0')),
    INVALID,
    /^a.svd:5:1: register B overlaps A \(a.svd:4:1\) at 0x0/,
  )
  refused(t, 'misaligned', 'a.svd', svd(svdRegister('A', '2')), INVALID, /not aligned/)
  refused(
    t,
    'a width of its own',
    'a.svd',
    svd(svdRegister('A', '0', '<size>24</size>')),
    UNSUPPORTED,
    /24 bits/,
  )
  const fields = (...ranges: string[]) =>
    svdRegister(
      'A',
      '0',
      `<fields>${ranges.map((range, i) => `<field><name>f${i}</name><bitRange>${range}</bitRange></field>`).join('')}</fields>`,
    )
  refused(t, 'a field beyond', 'a.svd', svd(fields('[32:31]')), INVALID, /field f0 of A is bits 32:31/)
  refused(t, 'a field upside down', 'a.svd', svd(fields('[0:3]')), INVALID, /field f0 of A is bits 0:3/)
  refused(t, 'fields that overlap', 'a.svd', svd(fields('[3:0]', '[5:3]')), INVALID, /has bit \d, as has/)
  refused(
    t,
    'a field of 2^40 bits',
    'a.svd',
    svd(fields('[1099511627776:0]')),
    INVALID,
    /is bits 1099511627776:0/,
  )
  refused(
    t,
    'a name without place',
    'a.svd',
    svd(svdRegister('A', '0', '<dim>2</dim><dimIncrement>4</dimIncrement>')),
    INVALID,
    /no %s/,
  )
  refused(
    t,
    'no access',
    'a.svd',
    svd(svdRegister('A', '0', '<access>sometimes</access>')),
    INVALID,
    /"sometimes" is no access/,
  )
  const circle = `<register derivedFrom="B"><name>A</name></register><register derivedFrom="A"><name>B</name></register>`
  refused(t, 'a circle', 'a.svd', svd(circle), INVALID, /derived from itself/)
  refused(
    t,
    'derived from nothing',
    'a.svd',
    svd('<register derivedFrom="X"><name>A</name></register>'),
    INVALID,
    /derived from X/,
  )
})

t.test('SystemRDL', async (t) => {
  const one = 'reg { field {} a; } A'
  refused(
    t,
    'cut off',
    'a.rdl',
    'addrmap m { reg { field {} a',
    INVALID,
    /wanted ';', found the end of the file/,
  )
  refused(t, 'braces left open', 'a.rdl', 'addrmap m { reg {', INVALID, /never closed/)
  refused(t, 'nothing', 'a.rdl', '// nothing\n', INVALID, /no addrmap/)
  refused(t, 'a word too many', 'a.rdl', rdl(`${one} B;`), INVALID, /^a.rdl:2:\d+: wanted ';', found "B"/)
  refused(
    t,
    'an unknown property',
    'a.rdl',
    rdl('colour = 1;'),
    INVALID,
    /^a.rdl:2:1: there is no property colour/,
  )
  refused(
    t,
    'a property of another',
    'a.rdl',
    rdl('regwidth = 8;'),
    INVALID,
    /addrmap, which has no property regwidth/,
  )
  refused(t, 'an unknown type', 'a.rdl', rdl('thing_t A;'), INVALID, /no component thing_t/)
  refused(t, 'past 2^53', 'a.rdl', rdl(`${one} @ 0x20000000000000;`), RANGE, /^a.rdl:2:\d+: the address of A/)
  refused(t, 'a huge array', 'a.rdl', rdl(`${one}[0x10000000][0x10000000];`), RANGE, /the array A/)
  refused(
    t,
    'an overlap',
    'a.rdl',
    rdl(`${one} @ 0;\nreg { field {} a; } B @ 0;`),
    INVALID,
    /^a.rdl:3:\d+: register B overlaps A/,
  )
  refused(t, 'a width', 'a.rdl', rdl('reg { regwidth = 24; field {} a; } A;'), INVALID, /regwidth is 24/)
  refused(t, 'wide', 'a.rdl', rdl('reg { regwidth = 128; field {} a; } A;'), UNSUPPORTED, /128 bits/)
  refused(
    t,
    'a field beyond',
    'a.rdl',
    rdl('reg { field {} a[33]; } A;'),
    INVALID,
    /a is bits 32:0 of a register of 32 bits/,
  )
  refused(
    t,
    'fields that overlap',
    'a.rdl',
    rdl('reg { field {} a[3:0]; field {} b[3:3]; } A;'),
    INVALID,
    /has bit 3/,
  )
  refused(
    t,
    'a reset too large',
    'a.rdl',
    rdl('reg { field {} a = 2; } A;'),
    INVALID,
    /reset 2 of a does not fit 1 bits/,
  )
  refused(
    t,
    'a number too large',
    'a.rdl',
    rdl("reg { field {} a = 1'd2; } A;"),
    INVALID,
    /1'd2 does not fit/,
  )
  refused(t, 'by zero', 'a.rdl', rdl(`${one} @ 4 / 0;`), INVALID, /by zero/)
  refused(t, 'a tower of powers', 'a.rdl', rdl(`${one} @ 9 ** 9 ** 9 ** 9;`), RANGE, /does not fit 64 bits/)
  refused(t, 'deep', 'a.rdl', rdl(`${one} @ ${'('.repeat(9000)}1;`), UNSUPPORTED, /deep/)
  refused(t, 'components deep', 'a.rdl', 'addrmap m { '.repeat(5000), UNSUPPORTED, /deep/)
  refused(t, 'Perl', 'a.rdl', rdl('<% for (1) { %>'), UNSUPPORTED, /Perl/)
  refused(
    t,
    'a macro with arguments',
    'a.rdl',
    '`define A(x) x\n',
    UNSUPPORTED,
    /^a.rdl:1:1: the macro A has arguments/,
  )
  refused(t, 'concatenation', 'a.rdl', rdl(`${one} @ {1, 2};`), UNSUPPORTED, /concatenation/)
  refused(
    t,
    'an element of an array',
    'a.rdl',
    rdl(`${one}[2]; A[0]->name = "x";`),
    UNSUPPORTED,
    /one element/,
  )
  refused(
    t,
    'a file that is not there',
    'a.rdl',
    '`include "none.rdl"',
    'ERR_ACCEL_NOT_FOUND',
    /^a.rdl:1:10: cannot include/,
  )
  refused(t, 'a condition left open', 'a.rdl', '`ifdef A\n', INVALID, /^a.rdl:1:1: .*`endif/)
  const bomb = `\`define A0 1 1 1 1 1 1 1 1\n${Array.from({ length: 30 }, (_, i) => `\`define A${i + 1} ${`\`A${i} `.repeat(8)}`).join('\n')}\n\`A30`
  refused(t, 'a macro bomb', 'a.rdl', bomb, RANGE, /more than 1000000 words/)
  const tree = `reg r0 { field {} a; };\n${Array.from({ length: 20 }, (_, i) => `regfile r${i + 1} { r${i} a; r${i} b; };`).join('\n')}\naddrmap m { r20 all; };`
  refused(t, 'an instance bomb', 'a.rdl', tree, RANGE, /more than 65536 instances/)
  writeFileSync(join(folder, 'self.rdl'), '`include "self.rdl"\n')
  t.throws(() => readRegisterFile(join(folder, 'self.rdl')), {
    code: UNSUPPORTED,
    message: /include each other/,
  })
})

t.test('files', async (t) => {
  t.throws(() => readRegisterFile(join(folder, 'none.svd')), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.throws(() => readRegisterFile(folder), { code: INVALID, message: /no regular file/ })
  const large = join(folder, 'large.svd')
  writeFileSync(large, '')
  truncateSync(large, 2 ** 33)
  t.throws(() => readRegisterFile(large), { code: RANGE, message: /8589934592 bytes/ })
  const binary = join(folder, 'binary.rdl')
  writeFileSync(binary, Buffer.from([0xff, 0xfe, 0x00, 0xd8]))
  t.throws(() => readRegisterFile(binary), { code: INVALID, message: /not UTF-8/ })
})

t.test('any damage to a file is an error of the table, or none', async (t) => {
  const whole = {
    'a.svd': svd(
      `${svdRegister('A', '0', '<size>8</size><resetValue>1</resetValue><fields><field><name>f</name><bitRange>[3:1]</bitRange></field></fields>')}
<cluster><name>C[%s]</name><dim>3</dim><dimIncrement>8</dimIncrement><addressOffset>8</addressOffset>${svdRegister('B', '0', '<access>read-only</access>')}</cluster>`,
    ),
    'a.xml': ipxact(
      `<ipxact:memoryMaps><ipxact:memoryMap><ipxact:name>m</ipxact:name><ipxact:addressBlock><ipxact:name>b</ipxact:name><ipxact:baseAddress>'h0</ipxact:baseAddress><ipxact:register><ipxact:name>R</ipxact:name><ipxact:dim>2</ipxact:dim><ipxact:addressOffset>4*2</ipxact:addressOffset><ipxact:size>32</ipxact:size></ipxact:register></ipxact:addressBlock></ipxact:memoryMap></ipxact:memoryMaps>`,
    ),
    'a.rdl': `\`define W 8\nenum e { a = 0; b; };\n${rdl(`default sw = rw; reg r #(longint N = 2) { field { encode = e; } f[N] = 1; } ;\nr #(.N(3)) A[2][\`W] @ 0x10 += 4; regfile { r X; } F @ 0x100; F.X->desc = "x";`)}`,
  }
  const words = [
    '<',
    '>',
    '"',
    '{',
    '}',
    '[%s]',
    '0',
    '-1',
    '99999999999999999999',
    ';',
    '*',
    '`W',
    "'h",
    '&',
    '\0',
    '@',
  ]
  for (const [file, text] of Object.entries(whole)) {
    t.ok(imported(file, text).length > 0)
    fc.assert(
      fc.property(
        fc.nat(text.length),
        fc.nat(12),
        fc.oneof(fc.constant(''), fc.constantFrom(...words)),
        (start, length, put) => {
          try {
            imported(file, text.slice(0, start) + put + text.slice(start + length))
          } catch (error) {
            if (!isAccelError(error)) throw error
          }
        },
      ),
      { numRuns: Number(process.env.UACCEL_REGISTER_RUNS ?? 400) },
    )
  }
  t.pass('no other error')
})
