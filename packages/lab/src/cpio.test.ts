import t from 'tap'
import { type CpioEntry, packCpio } from './cpio.js'

/** Reads an archive as the kernel's init/initramfs.c does: header, name and data, each padded to four bytes. */
function unpack(archive: Buffer) {
  const entries: { name: string; mode: number; links: number; rdev: [number, number]; data: Buffer }[] = []
  let at = 0
  while (at < archive.length) {
    const magic = archive.toString('latin1', at, at + 6)
    if (magic !== '070701') throw new Error(`no header at ${at}: ${magic}`)
    const field = (index: number) =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16)
    const nameAt = at + 110
    const name = archive.toString('utf8', nameAt, nameAt + field(11) - 1)
    if (archive[nameAt + field(11) - 1] !== 0) throw new Error(`name at ${nameAt} does not end`)
    const dataAt = (nameAt + field(11) + 3) & ~3
    const data = archive.subarray(dataAt, dataAt + field(6))
    entries.push({ name, mode: field(1), links: field(4), rdev: [field(9), field(10)], data })
    at = (dataAt + field(6) + 3) & ~3
  }
  return entries
}

t.test('packs every kind of entry, padded, and ends with the trailer', async (t) => {
  const files: CpioEntry[] = [0, 1, 2, 3, 4, 5].map((length) => ({
    path: `dir/${'n'.repeat(length + 1)}`,
    kind: 'file',
    data: Buffer.alloc(length, 0xa5),
  }))
  const archive = packCpio([
    { path: 'dir', kind: 'directory' },
    ...files,
    { path: 'init', kind: 'file', data: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
    { path: 'bin', kind: 'symlink', target: 'usr/bin' },
    { path: 'console', kind: 'device', major: 5, minor: 1 },
  ])
  t.equal(archive.length % 4, 0)
  const entries = unpack(archive)
  t.strictSame(
    entries.map(({ name, mode }) => `${mode.toString(8)} ${name}`),
    [
      '40755 dir',
      ...files.map(({ path }) => `100644 ${path}`),
      '100755 init',
      '120777 bin',
      '20600 console',
      '0 TRAILER!!!',
    ],
  )
  t.strictSame(
    entries.slice(1, 7).map(({ data }) => data.length),
    [0, 1, 2, 3, 4, 5],
  )
  t.equal(entries[6]!.data.toString('hex'), 'a5a5a5a5a5')
  t.equal(entries[8]!.data.toString(), 'usr/bin')
  t.strictSame(entries[9]!.rdev, [5, 1])
  t.equal(entries[0]!.links, 2)
})

t.test('a header is the 110 bytes that the format says', async (t) => {
  const archive = packCpio([{ path: 'a', kind: 'file', data: Buffer.from('xyz') }])
  t.equal(
    archive.toString('latin1', 0, 116),
    `070701${['00000001', '000081a4', '00000000', '00000000', '00000001', '00000000', '00000003'].join('')}${'00000000'.repeat(4)}0000000200000000a\0xyz\0`,
  )
})

t.test('refuses paths that the archive cannot hold', async (t) => {
  for (const path of ['/init', '', 'a\0b']) {
    t.throws(() => packCpio([{ path, kind: 'directory' }]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  }
})
