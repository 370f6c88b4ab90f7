import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import t from 'tap'
import { collectModules, labModules, loadOrder, missingModules, moduleInfo } from './modules.js'

/** The smallest ELF file that holds a `.modinfo` section. */
function fakeModule(tags: readonly string[]): Buffer {
  const info = Buffer.from(`${tags.join('\0')}\0`)
  const names = Buffer.from('\0.shstrtab\0.modinfo\0')
  const header = Buffer.alloc(64)
  header.writeUInt32BE(0x7f454c46, 0)
  header[4] = 2
  header[5] = 1
  const sections = Buffer.alloc(3 * 64)
  const section = (index: number, name: number, offset: number, size: number) => {
    sections.writeUInt32LE(name, index * 64)
    sections.writeBigUInt64LE(BigInt(offset), index * 64 + 0x18)
    sections.writeBigUInt64LE(BigInt(size), index * 64 + 0x20)
  }
  section(1, 1, 64, names.length)
  section(2, 11, 64 + names.length, info.length)
  header.writeBigUInt64LE(BigInt(64 + names.length + info.length), 0x28)
  header.writeUInt16LE(64, 0x3a)
  header.writeUInt16LE(3, 0x3c)
  header.writeUInt16LE(1, 0x3e)
  return Buffer.concat([header, names, info, sections])
}

t.test('a module comes after all that it depends on, once', async () => {
  // Module n may depend on modules below n: every graph without cycles is one of these.
  const graph = fc
    .array(fc.array(fc.nat(20), { maxLength: 4 }), { minLength: 1, maxLength: 20 })
    .map((rows) => rows.map((row, index) => row.filter((below) => below < index).map((n) => `m${n}`)))
  await fc.assert(
    fc.asyncProperty(graph, fc.array(fc.nat(19), { maxLength: 6 }), async (rows, wanted) => {
      const names = wanted.filter((n) => n < rows.length).map((n) => `m${n}`)
      const order = await loadOrder(names, async (name) => rows[Number(name.slice(1))])
      if (new Set(order).size !== order.length) return false
      if (!names.every((name) => order.includes(name))) return false
      return order.every((name, index) =>
        rows[Number(name.slice(1))]!.every((needed) => {
          const at = order.indexOf(needed)
          return at !== -1 && at < index
        }),
      )
    }),
  )
})

t.test('what is not there as a module is left out, and - is _', async (t) => {
  const depends: Record<string, string[]> = { vfio_pci: ['vfio_pci_core', 'builtin'], vfio_pci_core: [] }
  t.strictSame(await loadOrder(['vfio-pci'], async (name) => depends[name]), ['vfio_pci_core', 'vfio_pci'])
})

t.test('reads depends and softdep out of .modinfo', async (t) => {
  t.strictSame(
    moduleInfo(
      fakeModule(['license=GPL', 'depends=vfio-pci-core,irqbypass', 'softdep=pre: crc32c xor post: z']),
    ),
    {
      depends: ['vfio_pci_core', 'irqbypass'],
      softdepPre: ['crc32c', 'xor'],
    },
  )
  t.strictSame(moduleInfo(fakeModule(['depends='])), { depends: [], softdepPre: [] })
  t.strictSame(moduleInfo(Buffer.from('not a module')), { depends: [], softdepPre: [] })
})

t.test('collects from a module folder: nested, compressed, built in', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'lab-test-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await mkdir(join(folder, 'kernel/fs'), { recursive: true })
  const { required } = labModules
  await writeFile(join(folder, 'modules.builtin'), 'kernel/drivers/virtio/virtio_pci.ko\n')
  for (const name of required.filter((each) => each !== 'virtio_pci' && each !== 'overlay')) {
    await writeFile(join(folder, `kernel/${name.replaceAll('_', '-')}.ko`), fakeModule(['depends=helper']))
  }
  await writeFile(join(folder, 'kernel/helper.ko.gz'), gzipSync(fakeModule(['depends='])))
  t.strictSame(await missingModules(folder), ['overlay'])
  await writeFile(join(folder, 'kernel/fs/overlay.ko'), fakeModule(['depends=']))
  t.strictSame(await missingModules(folder), [])
  const modules = await collectModules(folder)
  t.strictSame(
    modules.map(({ name }) => name),
    ['helper', ...required.filter((each) => each !== 'virtio_pci')],
  )
  t.strictSame(moduleInfo(modules[0]!.data).depends, [], 'unpacked')
})
