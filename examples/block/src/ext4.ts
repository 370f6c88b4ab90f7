import { accelError } from '@uaccel/uapi'
import {
  type DirectoryEntry,
  damaged,
  decodeEntries,
  decodeInode,
  decodeSuperblock,
  INODE_BYTES,
  type Inode,
  MAP_BYTES,
  SUPERBLOCK,
  type Superblock,
  viewOf,
} from './layout.js'
import type { ByteSource } from './namespace.js'

/** Inode of the root directory (special_inodes.rst). */
const ROOT = 2
/** What is read of a file at once, in bytes: enough reads for a deep queue. */
const CHUNK_BYTES = 1 << 20
/** Links on the way to a file: as Linux (MAXSYMLINKS in include/linux/namei.h). */
const MAX_LINKS = 40
/** Bytes of a link's target: as Linux (PATH_MAX in include/uapi/linux/limits.h). */
const MAX_TARGET_BYTES = 4095
/** Head of each node of a tree of extents, and levels of the tree (ifork.rst, "Extent Tree"). */
const EXTENT_MAGIC = 0xf30a
const MAX_EXTENT_DEPTH = 5
/** ee_len beyond this is of an extent that was never written, and reads as zeroes. */
const MAX_WRITTEN_BLOCKS = 32_768
/** Block numbers of an inode without extents: 12 direct ones, then one each to a table of numbers, of tables, of tables of tables. */
const DIRECT = 12
/** Blocks of a file have numbers of 32 bits. */
const MAX_FILE_BLOCKS = 2 ** 32

/** Blocks of a file in a row: from `first` on, or nowhere, which reads as zeroes. */
interface Run {
  readonly first: number | undefined
  readonly count: number
}

/**
 * An ext2, ext3 or ext4 file system, for reading. Checksums are not looked at. Errors of what is read, besides those of its source:
 * `ERR_ACCEL_INVALID_ARGUMENT` where the file system contradicts itself, `ERR_ACCEL_UNSUPPORTED` for what this reader does not have.
 */
export class Ext4 {
  readonly superblock: Superblock
  readonly #source: ByteSource

  private constructor(source: ByteSource, superblock: Superblock) {
    this.#source = source
    this.superblock = superblock
  }

  static async open(source: ByteSource): Promise<Ext4> {
    const { offset, sizeBytes } = SUPERBLOCK
    const there = source.sizeBytes >= offset + sizeBytes
    const bytes = there ? await source.read(offset, sizeBytes) : new Uint8Array(sizeBytes)
    return new Ext4(source, decodeSuperblock(bytes, source.sizeBytes))
  }

  async inode(number: number): Promise<Inode> {
    const { inodes, inodesPerGroup, inodeBytes, descriptorBytes, blockBytes } = this.superblock
    if (number < 1 || number > inodes) throw damaged(`inode ${number} of ${inodes} is named`)
    const group = Math.floor((number - 1) / inodesPerGroup)
    // group_descr.rst: bg_inode_table_lo, and _hi where there is room for it.
    // They come behind the superblock's block, which with bigalloc is not s_first_data_block (descriptor_loc in fs/ext4/super.c).
    const descriptors = (Math.floor(SUPERBLOCK.offset / blockBytes) + 1) * blockBytes
    const descriptor = viewOf(await this.#bytes(descriptors + group * descriptorBytes, descriptorBytes))
    const high = descriptorBytes >= 64 ? descriptor.getUint32(0x28, true) : 0
    const table = (descriptor.getUint32(0x8, true) + high * 2 ** 32) * blockBytes
    const offset = table + ((number - 1) % inodesPerGroup) * inodeBytes
    return decodeInode(number, await this.#bytes(offset, INODE_BYTES))
  }

  /** The content of a file, directory or long link, in parts of at most 1 MiB. */
  async *read(inode: Inode): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < inode.sizeBytes; at += CHUNK_BYTES)
      yield await this.#chunk(inode, at, Math.min(CHUNK_BYTES, inode.sizeBytes - at))
  }

  /** What is in a directory, in the order of the disk. `ERR_ACCEL_INVALID_ARGUMENT` where it is none. */
  async entries(directory: Inode): Promise<DirectoryEntry[]> {
    const { blockBytes, blocks } = this.superblock
    const { number, type, sizeBytes } = directory
    if (type !== 'directory')
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Inode ${number} is a ${type}, wanted a directory`)
    if (sizeBytes % blockBytes !== 0 || sizeBytes > blocks * blockBytes)
      throw damaged(`directory ${number} has ${sizeBytes} bytes`)
    const entries: DirectoryEntry[] = []
    for await (const chunk of this.read(directory)) {
      for (let at = 0; at < chunk.length; at += blockBytes)
        for (const entry of decodeEntries(chunk.subarray(at, at + blockBytes), number)) entries.push(entry)
    }
    return entries
  }

  /** Where a link leads to. */
  async target(link: Inode): Promise<string> {
    const { number, type, sizeBytes, map } = link
    if (type !== 'link')
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Inode ${number} is a ${type}, wanted a link`)
    if (sizeBytes > MAX_TARGET_BYTES) throw damaged(`the target of link ${number} has ${sizeBytes} bytes`)
    // ext4_inode_is_fast_symlink: what is shorter than the map is in its place.
    const bytes = sizeBytes < MAP_BYTES ? map.subarray(0, sizeBytes) : await this.#chunk(link, 0, sizeBytes)
    return Buffer.from(bytes).toString()
  }

  /** The file or directory at a path; a link at its end is followed too. `ERR_ACCEL_NOT_FOUND` where there is none. */
  async lookup(path: string): Promise<Inode> {
    const way = [await this.inode(ROOT)]
    const names = path.split('/')
    for (let links = 0; names.length > 0; ) {
      const name = names.shift()!
      const directory = way.at(-1)!
      if (name === '..' && way.length > 1) way.pop()
      if (name === '' || name === '.' || name === '..') continue
      const found =
        directory.type === 'directory'
          ? (await this.entries(directory)).find((entry) => entry.name === name)
          : undefined
      if (found === undefined)
        throw accelError('ERR_ACCEL_NOT_FOUND', `There is no ${path} in the file system: ${name} is missing`)
      const inode = await this.inode(found.inode)
      if (inode.type !== 'link') {
        way.push(inode)
        continue
      }
      if (++links > MAX_LINKS)
        throw accelError(
          'ERR_ACCEL_INVALID_ARGUMENT',
          `There are more than ${MAX_LINKS} links on the way to ${path}`,
        )
      const target = await this.target(inode)
      if (target.startsWith('/')) way.length = 1
      names.unshift(...target.split('/'))
    }
    return way.at(-1)!
  }

  async #chunk(inode: Inode, offset: number, sizeBytes: number): Promise<Uint8Array> {
    const { blockBytes } = this.superblock
    const chunk = new Uint8Array(sizeBytes)
    const reads: Promise<void>[] = []
    try {
      for (let at = 0; at < sizeBytes; ) {
        const logical = (offset + at) / blockBytes
        const { first, count } = await this.#run(inode, logical, Math.ceil((sizeBytes - at) / blockBytes))
        const from = at
        const length = Math.min(count * blockBytes, sizeBytes - at)
        if (first !== undefined) {
          this.#check(inode, first, count)
          const read = this.#bytes(first * blockBytes, length).then((bytes) => chunk.set(bytes, from))
          read.catch(() => {}) // told below, after all of them
          reads.push(read)
        }
        at += length
      }
    } finally {
      await Promise.all(reads)
    }
    return chunk
  }

  #run(inode: Inode, logical: number, most: number): Promise<Run> {
    return inode.extents ? this.#extentRun(inode, logical, most) : this.#tableRun(inode, logical, most)
  }

  /** Goes down the tree of extents to block `logical` of a file. Answers at least one block. */
  async #extentRun(inode: Inode, logical: number, most: number): Promise<Run> {
    if (logical >= MAX_FILE_BLOCKS) throw damaged(`inode ${inode.number} is larger than its map`)
    let node = inode.map
    let depth = MAX_EXTENT_DEPTH + 1
    let end = logical + most // where the next extent begins, of all nodes on the way
    for (;;) {
      const view = viewOf(node)
      const [magic, count, room, level] = [0, 2, 4, 6].map((at) => view.getUint16(at, true))
      const fits = count <= room && 12 + 12 * room <= node.length
      // The depth of the first node is its own; those below count down.
      if (
        magic !== EXTENT_MAGIC ||
        !fits ||
        level >= depth ||
        (depth <= MAX_EXTENT_DEPTH && level !== depth - 1)
      )
        throw damaged(`the tree of extents of inode ${inode.number}`)
      depth = level
      let [at, block] = [-1, -1]
      for (let i = 1; i <= count; i++) {
        const begins = view.getUint32(12 * i, true)
        if (begins > logical) end = Math.min(end, begins)
        else if (begins > block) [at, block] = [12 * i, begins]
      }
      if (at < 0) return { first: undefined, count: end - logical }
      if (depth === 0) {
        const length = view.getUint16(at + 4, true)
        const written = length <= MAX_WRITTEN_BLOCKS
        const after = block + (written ? length : length - MAX_WRITTEN_BLOCKS)
        if (logical >= after) return { first: undefined, count: end - logical }
        const start = view.getUint32(at + 8, true) + view.getUint16(at + 6, true) * 2 ** 32
        return { first: written ? start + logical - block : undefined, count: Math.min(end, after) - logical }
      }
      node = await this.#block(inode, view.getUint32(at + 4, true) + view.getUint16(at + 8, true) * 2 ** 32)
    }
  }

  /** Looks block `logical` of a file up in the tables of ext2 (ifork.rst, "Direct/Indirect Block Addressing"). */
  async #tableRun(inode: Inode, logical: number, most: number): Promise<Run> {
    const perTable = this.superblock.blockBytes / 4
    let table = viewOf(inode.map.subarray(0, 4 * DIRECT))
    let index = logical
    if (logical >= DIRECT) {
      index -= DIRECT
      let level = 1
      for (; index >= perTable ** level; level++) index -= perTable ** level
      if (level > 3) throw damaged(`inode ${inode.number} is larger than its map`)
      let number = viewOf(inode.map).getUint32(4 * (DIRECT + level - 1), true)
      for (; level > 0; level--) {
        const span = perTable ** level
        index %= span
        if (number === 0) return { first: undefined, count: Math.min(most, span - index) }
        table = viewOf(await this.#block(inode, number))
        if (level > 1) number = table.getUint32(4 * Math.floor(index / perTable ** (level - 1)), true)
      }
    }
    const first = table.getUint32(4 * index, true)
    const step = first === 0 ? 0 : 1
    let count = 1
    while (count < most && 4 * (index + count) < table.byteLength) {
      if (table.getUint32(4 * (index + count), true) !== first + step * count) break
      count++
    }
    return { first: first === 0 ? undefined : first, count }
  }

  #block(inode: Inode, number: number): Promise<Uint8Array> {
    const { blockBytes } = this.superblock
    this.#check(inode, number, 1)
    return this.#bytes(number * blockBytes, blockBytes)
  }

  #check({ number }: Inode, first: number, count: number): void {
    const { blocks, firstBlock } = this.superblock
    if (first > firstBlock && first + count <= blocks) return
    throw damaged(`inode ${number} has ${count} blocks from ${first} on, of ${blocks}`)
  }

  async #bytes(offset: number, sizeBytes: number): Promise<Uint8Array> {
    const { blocks, blockBytes } = this.superblock
    if (offset + sizeBytes <= blocks * blockBytes) return this.#source.read(offset, sizeBytes)
    throw damaged(`${sizeBytes} bytes from ${offset} on are named, of ${blocks * blockBytes}`)
  }
}
