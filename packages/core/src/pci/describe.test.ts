import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type ConfigDescription, describeConfigSpace } from './describe.js'
import { chain, random } from './describe.test.support.js'
import { facts } from './lspci-facts.test.support.js'
import type { ConfigRegister } from './registers/capability.js'

const fieldsOf = (list: readonly ConfigRegister[], name: string) =>
  list.find((register) => register.name === name)?.fields

t.test('PCI Express, power management and AER of an endpoint', async (t) => {
  const bytes = chain({
    capabilities: {
      1: [0x03, 0xc8, 0x0b, 0x00], // D3hot, PME from D0, D3hot and D3cold
      16: [
        ...[0x02, 0x00, 0xc1, 0x8f, 0x2c, 0x10], // version 2; 256 bytes; FLR
        ...[0x3f, 0x51, 0x09, 0x00], // 256 bytes payload, 4096 read request
        ...[0x43, 0xd8, 0x73, 0x05, 0x42, 0x00, 0x43, 0x10], // 8 GT/s x4
      ],
    },
    extended: {
      1: [0x00, 0x40, 0x10, 0x00, 0, 0, 0x40, 0, 0x30, 0x20, 0x46, 0, 0x01, 0x20, 0, 0],
      3: [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
    },
  })
  const { capabilities, extendedCapabilities, header, problems } = describeConfigSpace(bytes)
  t.same(problems, [])
  t.match(fieldsOf(header, 'STATUS'), { capabilities: true, devsel: 'fast' })
  const [power, express] = capabilities
  t.match(fieldsOf(power!.registers, 'PMCSR'), { state: 'D3hot', noSoftReset: true })
  t.match(fieldsOf(power!.registers, 'PMC'), { version: 3, pmeD0: true, pmeD1: false, pmeD3cold: true })
  const of = (name: string) => fieldsOf(express!.registers, name)
  t.match(of('FLAGS'), { version: 2, type: 'endpoint', slot: false })
  t.match(of('DEVCAP'), {
    maxPayloadBytes: 256,
    acceptableL0s: 'unlimited',
    functionLevelReset: true,
    slotPowerLimitWatts: 11,
  })
  t.match(of('DEVCTL'), { maxPayloadBytes: 256, maxReadRequestBytes: 4096, fatalErrors: true })
  t.match(of('DEVSTA'), { correctableError: true, unsupportedRequest: true, fatalError: false })
  t.match(of('LNKCAP'), { speed: '8GT/s', width: 4, aspm: 'L1', port: 5 })
  t.match(of('LNKSTA'), { speed: '8GT/s', width: 4, slotClock: true })
  t.equal(of('SLTCAP'), undefined, 'an endpoint has no slot')
  const [errors, serial] = extendedCapabilities
  const status = fieldsOf(errors!.registers, 'UNCOR_STATUS')!
  t.same(
    Object.entries(status).filter(([, on]) => on),
    [
      ['completionTimeout', true],
      ['unsupportedRequest', true],
    ],
  )
  t.match(fieldsOf(errors!.registers, 'COR_STATUS'), {
    receiver: true,
    advisoryNonFatal: true,
    badTlp: false,
  })
  t.same(
    serial!.registers.map(({ fields }) => fields.serial),
    ['55-66-77-88', '11-22-33-44'],
  )
  t.equal(errors!.registers.find(({ name }) => name === 'UNCOR_STATUS')?.offset, 0x104)
})

t.test('layouts that the structure itself chooses', async (t) => {
  const names = (bytes: Uint8Array) =>
    describeConfigSpace(bytes).capabilities[0]!.registers.map(({ name }) => name)
  t.same(names(chain({ capabilities: { 5: [0x00, 0x00] } })), ['CONTROL', 'ADDRESS_LO', 'DATA'])
  t.same(names(chain({ capabilities: { 5: [0x80, 0x01] } })), [
    ...['CONTROL', 'ADDRESS_LO', 'ADDRESS_HI', 'DATA', 'MASK', 'PENDING'],
  ])
  // Enhanced Allocation: one entry of four words, with a 64-bit base
  const ea = describeConfigSpace(
    chain({
      capabilities: { 20: [1, 0, 0x03, 0x01, 0, 0x80, 0x02, 0, 0, 0xd0, 0xfc, 0x0f, 0, 0, 1, 0, 0, 0] },
    }),
  ).capabilities[0]!.registers
  t.same(
    ea.map(({ name }) => name),
    ['NUM_ENTRIES', 'ENTRY[0]', 'BASE[0]', 'MAX_OFFSET[0]', 'BASE_HI[0]'],
  )
  t.match(fieldsOf(ea, 'ENTRY[0]'), { resource: 'BAR 0', primary: 'prefetchable', enable: true })
  t.match(fieldsOf(ea, 'BASE[0]'), { is64Bit: true, address: 0xd0000000 })
  const rebar = describeConfigSpace(
    chain({ extended: { 21: [0xf0, 0, 0, 0, 0x42, 0x02, 0, 0, 0, 0x40, 0, 0, 0x04, 0x0a, 0, 0] } }),
  ).extendedCapabilities[0]!.registers
  t.match(fieldsOf(rebar, 'BAR[0].CAP'), { sizes: '1MiB,2MiB,4MiB,8MiB' })
  t.match(fieldsOf(rebar, 'BAR[0].CTRL'), { bar: 2, bars: 2, sizeBytes: 4 << 20 })
  t.match(fieldsOf(rebar, 'BAR[1].CTRL'), { bar: 4, sizeBytes: 2 ** 30 })
  const bridge = chain({ capabilities: {} })
  bridge[0x0e] = 1
  bridge.set([0, 1, 2], 0x18)
  t.match(fieldsOf(describeConfigSpace(bridge).header, 'SECONDARY_BUS'), { bus: 1 })
})

t.test('registers that do not lie within the bytes are left out', async (t) => {
  const end = new Uint8Array(256)
  end[0x06] = 0x10
  end[0x34] = 0xf8
  end.set([0x10, 0, 0x42, 0, 1, 0, 0, 0], 0xf8)
  t.same(
    describeConfigSpace(end).capabilities[0]!.registers.map(({ name }) => name),
    ['FLAGS', 'DEVCAP'],
  )
  t.same(describeConfigSpace(new Uint8Array(10)).capabilities, [])
  const foreign = chain({ capabilities: { 119: [1, 2, 3] }, extended: { 16383: [1, 2, 3] } })
  t.same(describeConfigSpace(foreign).capabilities[0]!.registers, [])
  t.same(describeConfigSpace(foreign).extendedCapabilities[0]!.registers, [])
})

t.test('property: no bytes break it, and what it answers is bounded and lies within them', async () => {
  const check = ({ capabilities, extendedCapabilities, header }: ConfigDescription, size: number) => {
    const all = [
      ...header,
      ...[...capabilities, ...extendedCapabilities].flatMap(({ registers }) => registers),
    ]
    if (all.length > 200_000) throw new Error('unbounded')
    for (const { offset, width, raw, fields } of all) {
      if (offset + width / 8 > size) throw new Error(`${offset} is beyond ${size}`)
      if (raw < 0 || raw >= 2 ** width) throw new Error('raw')
      for (const [name, value] of Object.entries(fields))
        if (value === undefined || Number.isNaN(value)) throw new Error(`${name} is ${value}`)
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096, size: 'max' }), fc.boolean(), (bytes, list) => {
      if (list && bytes.length > 6) bytes[6] |= 0x10
      check(describeConfigSpace(bytes), bytes.length)
    }),
    { numRuns: 50 },
  )
  // and with the ids that are decoded
  for (let seed = 1; seed <= 40; seed++) {
    const bytes = random(seed)
    check(describeConfigSpace(bytes), bytes.length)
    check(describeConfigSpace(bytes.subarray(0, 0x150)), 0x150)
  }
})

/** `lspci` reads dumps without a bus; UACCEL_LSPCI names another than the installed one. */
const lspci = process.env.UACCEL_LSPCI ?? 'lspci'
const missing =
  !process.env.CI && // .ci/run installs it
  spawnSync(lspci, ['--version']).error !== undefined &&
  `${lspci} (pciutils) is not installed`

t.test('the same facts as lspci -vvv, of 200 random devices', { skip: missing }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const spaces = Array.from({ length: 200 }, (_, i) => random(i + 1))
  const dump = spaces.map((bytes, bus) => {
    const rows = Array.from({ length: 256 }, (_, row) => {
      const part = [...bytes.subarray(16 * row, 16 * row + 16)].map((byte) =>
        byte.toString(16).padStart(2, '0'),
      )
      return `${(16 * row).toString(16).padStart(2, '0')}: ${part.join(' ')}`
    })
    return `${bus.toString(16).padStart(2, '0')}:00.0 random\n${rows.join('\n')}\n`
  })
  const file = join(folder, 'dump.txt')
  writeFileSync(file, dump.join('\n'))
  const { stdout } = spawnSync(lspci, ['-vvv', '-n', '-F', file], { encoding: 'utf8', maxBuffer: 1 << 28 })
  const devices = stdout.split(/\n\n/).filter((text) => /^[0-9a-f]{2}:00\.0/.test(text))
  t.equal(devices.length, spaces.length)
  const compared = new Map<string, number>()
  for (const [i, text] of devices.entries()) {
    const described = describeConfigSpace(spaces[i]!)
    for (const { what, theirs, ours } of facts(text, described)) {
      compared.set(what, (compared.get(what) ?? 0) + 1)
      if (theirs !== ours) t.equal(ours, theirs, `${what} of device ${i}`)
    }
  }
  t.comment(`${compared.size} kinds of facts, ${[...compared.values()].reduce((a, b) => a + b, 0)} compared`)
  t.ok(compared.size >= 200, `${compared.size} kinds of facts`)
})
