import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Ext4 } from './ext4.js'
import { makeImage, readImage } from './image.js'
import { formatEntry } from './report.js'
import { largeTree, Memory, noise, smallTree, temporaryFolder, writeSparse } from './tree.test.helper.js'
import { verify } from './verify.js'

t.setTimeout(600_000)

const invalid = 'ERR_ACCEL_INVALID_ARGUMENT'
const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 300)

async function contents(fs: Ext4, path: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of fs.read(await fs.lookup(path))) parts.push(part)
  return Buffer.concat(parts)
}

/** Runs a program of e2fsprogs on an image. */
function e2fs(t: Test, image: Uint8Array, program: string, ...args: readonly string[]): Uint8Array {
  const path = join(temporaryFolder(t), 'disk.img')
  writeFileSync(path, image)
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
  try {
    execFileSync(program, [...args, path], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (error) {
    if ((error as { status?: number }).status !== 1) throw error // e2fsck: mended
  }
  return readImage(path)
}

t.test('file systems of all kinds hold what mke2fs put into them', async (t) => {
  const folder = temporaryFolder(t)
  largeTree(folder)
  for (const [type, options, version] of [
    ['ext4', [], 'ext4'],
    ['ext4', ['-b', '1024'], 'ext4'],
    ['ext4', ['-b', '4096'], 'ext4'],
    ['ext4', ['-b', '65536'], 'ext4'],
    ['ext4', ['-b', '4096', '-I', '128', '-O', '^64bit,^metadata_csum,^flex_bg'], 'ext4'],
    ['ext4', ['-b', '4096', '-O', '^filetype,metadata_csum'], 'ext4'],
    ['ext4', ['-b', '1024', '-O', 'bigalloc'], 'ext4'],
    ['ext3', ['-b', '4096'], 'ext3'],
    ['ext2', ['-b', '1024'], 'ext2'],
    ['ext2', ['-b', '4096', '-O', '^filetype'], 'ext2'],
    ['ext2', ['-r', '0', '-b', '2048'], 'ext2'],
  ] as const) {
    const fs = await Ext4.open(
      new Memory(await makeImage(folder, { type, extra: options, sizeBytes: 48 << 20 })),
    )
    t.equal(fs.superblock.version, version)
    const { mismatches, ...counted } = await verify(fs, folder)
    t.same(mismatches, [], `${type} ${options.join(' ')}`)
    t.match(counted, { files: 315, directories: 6, links: 6 })
  }
})

t.test('a file of ext2 with tables of tables of tables', async (t) => {
  const folder = temporaryFolder(t)
  writeSparse(join(folder, 'far'), 67 << 20, [0, 20_000_768, 69_000_192], noise(10_000, 6))
  const fs = await Ext4.open(new Memory(await makeImage(folder, { type: 'ext2', extra: ['-b', '1024'] })))
  t.same((await verify(fs, folder)).mismatches, [])
})

t.test('paths and links', async (t) => {
  const folder = temporaryFolder(t)
  largeTree(folder)
  const fs = await Ext4.open(new Memory(await makeImage(folder)))
  const text = 'one line\n'
  for (const path of [
    'text',
    '/text',
    '//./text',
    'a/../text',
    '../../text',
    'again',
    'absolute',
    'short/../../text',
  ])
    t.equal((await contents(fs, path)).toString(), text, path)
  for (const path of ['short/c/deep', 'long']) t.equal((await contents(fs, path)).toString(), 'deep\n', path)
  t.equal((await fs.lookup('')).number, 2)
  for (const path of ['none', 'text/none', 'a/none/b', 'target59'])
    await t.rejects(fs.lookup(path), { code: 'ERR_ACCEL_NOT_FOUND' }, path)
  await t.rejects(fs.lookup('round'), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /more than 40 links/ })
  const file = await fs.lookup('text')
  await t.rejects(fs.entries(file), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /is a file, wanted a directory/,
  })
  await t.rejects(fs.target(file), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /is a file, wanted a link/,
  })
  t.equal(formatEntry('text', file), '-rwsr-x--x            9  text')
  t.equal(formatEntry('e', await fs.lookup('empty')), '-rw------T            0  e')
  t.equal(
    formatEntry('tab\tand\x1b[2J', file, 'x\u202ey').slice(25),
    'tab?and?[2J -> x?y',
    'nothing that a terminal obeys',
  )
})

t.test('directories with an index, and blocks that were never written', async (t) => {
  const folder = temporaryFolder(t)
  largeTree(folder)
  const made = await makeImage(folder, { type: 'ext4', extra: ['-b', '1024'] })
  const indexed = e2fs(t, made, 'e2fsck', '-fyD')
  t.notOk(Buffer.from(made).equals(indexed))
  const { mismatches } = await verify(await Ext4.open(new Memory(indexed)), folder)
  t.same(mismatches, [])
  const reserved = e2fs(t, made, 'debugfs', '-w', '-R', 'fallocate /block 4 9')
  const grown = e2fs(t, reserved, 'debugfs', '-w', '-R', 'sif /block size 10240')
  const block = await contents(await Ext4.open(new Memory(grown)), 'block')
  t.ok(block.subarray(0, 4096).equals(readFileSync(join(folder, 'block'))))
  t.ok(block.subarray(4096).equals(Buffer.alloc(6144)), 'they read as zeroes')
})

t.test('what is not the same is told', async (t) => {
  const folder = temporaryFolder(t)
  smallTree(folder)
  const image = await makeImage(folder)
  const fs = await Ext4.open(new Memory(image))
  const other = temporaryFolder(t)
  smallTree(other)
  execFileSync(
    'sh',
    [
      '-c',
      'echo else >text; printf x | dd of=noise bs=1 seek=49999 conv=notrunc status=none; rm empty; >new; rm -r a/b/c; >a/b/c; ln -sfn a short',
    ],
    { cwd: other },
  )
  const { mismatches } = await verify(fs, other)
  t.same([...mismatches].sort(), [
    '/a/b/c: is a directory in the file system, and a file in the folder',
    '/empty: is missing in the folder',
    '/new: is missing in the file system',
    '/noise: the contents differ',
    '/short: leads to a/b in the file system, and to a in the folder',
    '/text: has 9 bytes in the file system, and 5 in the folder',
  ])
  await t.rejects(verify(fs, join(folder, 'none')), { code: 'ERR_ACCEL_NOT_FOUND' })
  await t.rejects(verify(fs, join(folder, 'text')), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('superblocks that are refused', async (t) => {
  const folder = temporaryFolder(t)
  smallTree(folder)
  const image = await makeImage(folder)
  const unsupported = 'ERR_ACCEL_UNSUPPORTED'
  for (const [at, value, code, said] of [
    [0x38, 0, invalid, /no ext2, ext3 or ext4 file system/],
    [0x18, 7, invalid, /blocks of 2\^17 bytes/],
    [0x18, 0xffff_ffff, invalid, /damaged/],
    [0x04, 0xffff_ffff, invalid, /and the disk/],
    [0x14, 0xffff_ffff, invalid, /damaged/],
    [0x20, 0, invalid, /damaged/],
    [0x28, 0, invalid, /damaged/],
    [0x00, 0xffff_ffff, invalid, /inodes in/],
    [0x58, 0, invalid, /inodes of 0 bytes/],
    [0x58, 129, invalid, /inodes of 129 bytes/],
    [0xfe, 0, invalid, /group descriptors of 0 bytes/],
    [0x60, 0x2c2 | 0x4, unsupported, /journal/],
    [0x60, 0x2c2 | 0x1_8010, unsupported, /metaBlockGroups, inlineData, encryption/],
    [0x60, 0x8000_0000, unsupported, /unknown ones \(0x80000000\)/],
  ] as const) {
    const changed = image.slice()
    new DataView(changed.buffer).setUint32(1024 + at, value, true)
    await t.rejects(
      Ext4.open(new Memory(changed)),
      { code, message: said },
      `0x${value.toString(16)} at ${at}`,
    )
  }
  for (const sizeBytes of [0, 1024, 2047]) {
    const open = Ext4.open(new Memory(image.subarray(0, sizeBytes)))
    await t.rejects(open, { code: invalid }, `a disk of ${sizeBytes} bytes`)
  }
  const half = Ext4.open(new Memory(image.subarray(0, image.length / 2)))
  await t.rejects(half, { code: invalid, message: /and the disk/ })
})

t.test('damage of each kind', async (t) => {
  const folder = temporaryFolder(t)
  smallTree(folder)
  const made = { ext2: await makeImage(folder, { type: 'ext2' }), ext4: await makeImage(folder) }
  const read = async (fs: Ext4, path: string) => {
    for await (const _ of fs.read(await fs.lookup(path))) break
  }
  const list = async (fs: Ext4, path: string) => {
    await fs.entries(await fs.lookup(path))
  }
  for (const [type, change, work, code, said] of [
    ['ext4', '/noise block[0] 0', read, invalid, /the tree of extents of inode/],
    ['ext4', '/noise block[0] 0x0005f30a', read, invalid, /the tree of extents/], // five extents where four have room
    ['ext4', '/noise block[1] 0x00000005', read, invalid, /the tree of extents/], // room for five
    ['ext4', '/noise block[1] 0x00060004', read, invalid, /the tree of extents/], // six levels
    ['ext4', '/noise block[1] 0x00010004', read, invalid, /1 blocks from \d+ on/], // an extent for an index
    ['ext4', '/noise block[5] 0x7fffffff', read, invalid, /blocks from 2147483647 on/],
    ['ext4', '/noise block[5] 0', read, invalid, /blocks from 0 on/],
    ['ext2', '/noise block[0] 0xfffffff0', read, invalid, /blocks from 4294967280 on/],
    ['ext2', '/noise block[IND] 0xfffffff0', read, invalid, /1 blocks from 4294967280 on/],
    ['ext4', '/a size 1000', list, invalid, /directory \d+ has 1000 bytes/],
    ['ext4', '/a size 0x40000000', list, invalid, /directory \d+ has 1073741824 bytes/],
    ['ext4', '/a size 2048', list, invalid, /an entry of directory/], // a hole
    ['ext4', '/a mode 0', list, invalid, /is in use, and is none/],
    ['ext4', '/a links_count 0', list, invalid, /is in use, and is none/],
    ['ext4', '/long size 5000', read, invalid, /the target of link \d+ has 5000 bytes/],
    ['ext4', '/text flags 0x800', read, 'ERR_ACCEL_UNSUPPORTED', /has encrypted data/],
    ['ext4', '/text flags 0x10000000', read, 'ERR_ACCEL_UNSUPPORTED', /has inline data/],
  ] as const) {
    const fs = await Ext4.open(new Memory(e2fs(t, made[type], 'debugfs', '-w', '-R', `sif ${change}`), 1000))
    await t.rejects(work(fs, change.split(' ')[0]), { code, message: said }, `${type}: ${change}`)
  }
  const endless = e2fs(t, made.ext4, 'debugfs', '-w', '-R', 'sif /sparse size 0x1000000000000')
  const fs = await Ext4.open(new Memory(endless))
  t.equal((await fs.lookup('sparse')).sizeBytes, 2 ** 48)
  const { mismatches } = await verify(fs, folder)
  t.match(mismatches, [/^\/sparse: has 281474976710656 bytes in the file system, and 300000 in the folder$/])
})

/** Reads what an image has, however it is. Answers whether all of it could be read; else there was an error of an image. */
async function explore(image: Uint8Array, folder: string): Promise<boolean> {
  const source = new Memory(image, 100_000)
  try {
    const fs = await Ext4.open(source)
    const { mismatches } = await verify(fs, folder)
    for (const { inode: number } of await fs.entries(await fs.lookup('/'))) {
      const inode = await fs.inode(number)
      if (inode.type === 'directory') await fs.entries(inode)
      else if (inode.type === 'link') await fs.target(inode)
      else for await (const _ of fs.read(inode)) break
    }
    await fs.lookup('long')
    return mismatches.length === 0
  } catch (error) {
    const known = ['ERR_ACCEL_INVALID_ARGUMENT', 'ERR_ACCEL_UNSUPPORTED', 'ERR_ACCEL_NOT_FOUND'] as const
    if (!known.some((code) => isAccelError(error, code))) throw error
    return false
  }
}

for (const type of ['ext2', 'ext4'] as const) {
  t.test(`damaged images of ${type} end with an error, or other contents`, async (t) => {
    const folder = temporaryFolder(t)
    smallTree(folder)
    const image = await makeImage(folder, { type, extra: ['-b', '1024', '-O', '^has_journal'] })
    // Where something is: a byte in the rest of the disk is of no file.
    const used = Array.from({ length: image.length / 1024 }, (_, block) => block * 1024).filter((at) =>
      image.subarray(at, at + 1024).some((byte) => byte !== 0),
    )
    t.comment(`${used.length} blocks of 1 KiB`)
    const place = fc.record({
      block: fc.oneof(fc.nat(used.length - 1), fc.nat(Math.min(used.length - 1, 20))),
      at: fc.nat(1023),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0xff)),
    })
    const count = { whole: 0, damaged: 0 }
    await fc.assert(
      fc.asyncProperty(fc.array(place, { minLength: 1, maxLength: 40 }), async (places) => {
        const damaged = image.slice()
        for (const { block, at, byte } of places) damaged[used[block] + at] = byte
        count[(await explore(damaged, folder)) ? 'whole' : 'damaged']++
      }),
      { numRuns: runs },
    )
    t.comment(JSON.stringify(count))
    t.ok(count.damaged > runs / 4, 'damage shows')
  })
}
