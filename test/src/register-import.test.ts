import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { RegisterEntry, RegisterMap } from '@uaccel/core'
import { Bar0 as edu } from '@uaccel/driver-edu/registers'
import { NpuRegisters } from '@uaccel/driver-npu/registers'
import { NvmeRegisters } from '@uaccel/driver-nvme/registers'
import t from 'tap'
import { type Read, readIpxact, readSvd } from './register-reading.js'

/**
 * Descriptions of public hardware are imported by the command line, what it writes is compiled and loaded, and held against readings that
 * share nothing with it: small readers of XML, and maps that were written by hand from data sheets. Larger files, which are not ours to
 * keep, are taken from the folder UACCEL_REGISTER_FILES.
 */

const root = fileURLToPath(new URL('../../', import.meta.url))
const files = join(root, 'test/register-files')
const cli = join(root, 'packages/cli/bin/uaccel.mjs')

// below the repository, so that @uaccel/core is found from there
const folder = mkdtempSync(join(root, 'test/dist/registers-'))
t.teardown(() => rmSync(folder, { recursive: true }))

type Maps = Readonly<Record<string, RegisterMap>>

/** Answers what it could not keep. */
function importFile(path: string, output: string, ...options: string[]): string {
  const { status, stderr } = spawnSync(
    process.execPath,
    [cli, 'reg', 'import', path, '--output', join(folder, output), ...options],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(stderr)
  return stderr
}

/** Compiles all that was written, and loads it. */
async function compile(names: readonly string[]): Promise<Maps[]> {
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: join(root, 'tsconfig.base.json'),
      compilerOptions: {
        composite: false,
        incremental: false,
        declaration: false,
        declarationMap: false,
        sourceMap: false,
      },
      include: ['*.ts'],
    }),
  )
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  // Without the loader that the test runner puts into each environment.
  execFileSync('env', ['--unset=NODE_OPTIONS', join(root, 'node_modules/.bin/tsc'), '-p', folder], {
    stdio: 'pipe',
  })
  return Promise.all(
    names.map((name) => import(pathToFileURL(join(folder, `${name}.js`)).href) as Promise<Maps>),
  )
}

/** Names as every style has them. */
const plain = (name: string): string => name.toUpperCase().replace(/[^A-Z0-9]/g, '')

/** What is wrong with maps, held against an independent reading; how much of it was compared. */
function compare(maps: Maps, read: readonly Read[]): { wrong: string[]; registers: number; fields: number } {
  const places = new Map<string, RegisterEntry[]>()
  for (const [name, { entries }] of Object.entries(maps)) {
    const block = plain(name.replace(/(Alternate\d*)?Registers$/, ''))
    for (const entry of entries) {
      const key = `${block} ${entry.offset}`
      places.set(key, [...(places.get(key) ?? []), entry])
    }
  }
  const wrong: string[] = []
  let compared = 0
  const used = new Set<RegisterEntry>()
  for (const { block, name, offset, width, fields } of read) {
    const found = (places.get(`${plain(block)} ${offset}`) ?? []).filter((entry) =>
      [plain(name), `${plain(name)}WRITE`].includes(plain(entry.name)),
    )
    if (found.length === 0) wrong.push(`${block}.${name} is not at ${offset}`)
    for (const entry of found) {
      used.add(entry)
      if (entry.width !== width) wrong.push(`${block}.${name} has ${entry.width} bits, not ${width}`)
    }
    const got = new Set(
      found.flatMap((entry) =>
        Object.entries(entry.fields).map(([key, { hi, lo }]) => `${plain(key)} ${hi}:${lo}`),
      ),
    )
    const wanted = new Set(
      fields.filter(({ hi, lo }) => hi - lo < 53).map((one) => `${plain(one.name)} ${one.hi}:${one.lo}`),
    )
    for (const one of wanted) if (!got.has(one)) wrong.push(`${block}.${name} lacks ${one}`)
    for (const one of got) if (!wanted.has(one)) wrong.push(`${block}.${name} has ${one} of its own`)
    compared += wanted.size
  }
  for (const entry of [...places.values()].flat())
    if (!used.has(entry)) wrong.push(`${entry.name} is not in the file`)
  return { wrong: wrong.slice(0, 20), registers: read.length, fields: compared }
}

/** What an import has in common with a map that was written by hand: all but its words. */
const bare = ({ entries }: RegisterMap) =>
  entries.map(({ name, offset, width, access, fields }) => ({
    name,
    offset,
    width,
    access,
    // by hand, a register that is one number has no field for it
    fields: Object.fromEntries(
      Object.entries(fields).filter(
        ([key, { hi, lo }]) => !((key === 'value' || key === 'queues') && hi - lo + 1 === width),
      ),
    ),
  }))

t.test('public hardware: what is written compiles, and says what the file says', async (t) => {
  for (const file of ['edu.rdl', 'npu.rdl', 'uart16550.svd', 'nvme.xml'])
    importFile(join(files, file), `${file.replace('.', '-')}.ts`)
  const [eduMaps, npuMaps, uartMaps, nvmeMaps] = (await compile([
    'edu-rdl',
    'npu-rdl',
    'uart16550-svd',
    'nvme-xml',
  ])) as [Maps, Maps, Maps, Maps]

  t.same(bare(eduMaps.EduRegisters!), bare(edu), 'SystemRDL: edu, as QEMU documents it and the driver has it')
  t.same(eduMaps.EduRegisters!.find('ID').reset, { value: 0x010000edn, mask: 0xffff00ffn })
  t.same(eduMaps.EduRegisters!.find('STATUS').reset, { value: 0n, mask: 0x81n })

  const npu = bare(npuMaps.NpuRegisters!).map((entry) =>
    entry.name.endsWith('.PERM')
      ? { ...entry, fields: { read: entry.fields.allowRead, write: entry.fields.allowWrite } }
      : entry,
  )
  t.same(npu, bare(NpuRegisters), 'SystemRDL: the NPU, with arrays in arrays, as its driver has it')

  const uart = compare(uartMaps, readSvd(join(files, 'uart16550.svd')))
  t.same(uart, { wrong: [], registers: 24, fields: 80 }, 'CMSIS-SVD: the 16550')
  t.equal(uartMaps.Uart1Registers, uartMaps.Uart0Registers, 'what is derived without a change is the same')
  const { Uart0Registers, Uart0AlternateRegisters } = uartMaps
  t.same(
    Uart0Registers!.entries.map(({ name, offset, access }) => `${offset} ${name} ${access}`),
    [
      '0 RBR rc',
      '0 THR wo',
      '1 IER rw',
      '2 IIR rc',
      '2 FCR wo',
      '3 LCR rw',
      '4 MCR rw',
      '5 LSR rc',
      '6 MSR rc',
      '7 SCR rw',
    ],
  )
  t.same(
    Uart0AlternateRegisters!.entries.map(({ name, access }) => `${name} ${access}`),
    ['DLL rw', 'DLM rw'],
  )
  t.same(Uart0Registers!.find('LSR').reset, { value: 0x60n, mask: 0xffn })

  const nvme = compare(nvmeMaps, readIpxact(join(files, 'nvme.xml')))
  t.same(nvme, { wrong: [], registers: 20, fields: 51 }, 'IP-XACT: the registers of NVMe')
  const ranges = (entry: RegisterEntry) =>
    new Set(Object.values(entry.fields).map(({ hi, lo }) => `${hi}:${lo}`))
  for (const own of NvmeRegisters.entries) {
    const entry = nvmeMaps.ControllerRegisters!.entries.find(({ offset }) => offset === own.offset)!
    t.equal(entry.width, own.width)
    for (const range of ranges(own))
      t.ok(ranges(entry).has(range) || range === '37:37', `${own.name} ${range}`)
  }
})

t.test('what is written is formatted as this project is', async (t) => {
  const format = spawnSync(
    join(root, 'node_modules/.bin/biome'),
    [
      'format',
      '--vcs-enabled=false',
      `--config-path=${root}`,
      ...readdirSync(folder)
        .filter((name) => name.endsWith('.ts'))
        .map((name) => join(folder, name)),
    ],
    { encoding: 'utf8' },
  )
  t.equal(format.status, 0, format.stderr)
  t.match(format.stdout, /Checked 4 files/)
})

const own = process.env.UACCEL_REGISTER_FILES
const what = `files of UACCEL_REGISTER_FILES${own ? '' : ': not run, there is no such folder'}`
t.test(what, { timeout: 600_000 }, async (t) => {
  if (!own) return
  const found = readdirSync(own).filter((name) => /\.(svd|xml)$/.test(name))
  t.ok(found.length > 0)
  const told = found.map((name) => importFile(join(own, name), `${plain(name)}.ts`, '--overlaps'))
  const maps = await compile(found.map(plain))
  found.forEach((name, i) => {
    const path = join(own, name)
    const { wrong, registers, fields } = compare(
      maps[i]!,
      name.endsWith('.svd') ? readSvd(path) : readIpxact(path),
    )
    // two fields that have the same bit, in one direction: no map can have both
    const left = [...told[i]!.matchAll(/field (\S+) of (\S+) has bit \d+, .* left out/g)].map(
      ([, field, register]) => `${register} lacks ${plain(field!)} `,
    )
    const unexplained = wrong.filter((one) => !left.some((known) => one.includes(known)))
    t.same(unexplained, [], `${name}: ${registers} registers, ${fields} fields`)
  })
})
