import { accelError } from '@uaccel/uapi'

// What ext2, ext3 and ext4 have on the disk, all of it little-endian: Linux, Documentation/filesystems/ext4/*.rst and fs/ext4/ext4.h.
// Nothing that is read is believed: an image may come from anybody.

const MAGIC = 0xef53
/** The superblock is there whatever the block size is (super.rst, "Layout": group 0 begins with 1024 bytes of padding). */
export const SUPERBLOCK = { offset: 1024, sizeBytes: 1024 } as const
/** Blocks are of 1 KiB to 64 KiB. */
const MAX_BLOCK_LOG = 6

/** Features that change how the disk is read (super.rst, s_feature_incompat). */
const incompatible = {
  compression: 0x1,
  filetype: 0x2,
  needsRecovery: 0x4,
  journalDevice: 0x8,
  metaBlockGroups: 0x10,
  extents: 0x40,
  '64bit': 0x80,
  multipleMountProtection: 0x100,
  flexibleBlockGroups: 0x200,
  valuesInInodes: 0x400,
  dataInDirectories: 0x1000,
  checksumSeed: 0x2000,
  largeDirectories: 0x4000,
  inlineData: 0x8000,
  encryption: 0x1_0000,
  casefold: 0x2_0000,
} as const
/** Those that {@link Superblock} has words for, or that a reader need not look at. */
const supported =
  incompatible.filetype |
  incompatible.extents |
  incompatible['64bit'] |
  incompatible.multipleMountProtection |
  incompatible.flexibleBlockGroups |
  incompatible.valuesInInodes |
  incompatible.checksumSeed |
  incompatible.largeDirectories |
  incompatible.casefold
/** s_feature_compat: a journal, which is all that makes an ext3 of an ext2. */
const HAS_JOURNAL = 0x4

/** What of a superblock a reader needs. */
export interface Superblock {
  readonly version: 'ext2' | 'ext3' | 'ext4'
  readonly blockBytes: number
  readonly blocks: number
  readonly firstBlock: number
  readonly blocksPerGroup: number
  readonly inodes: number
  readonly inodesPerGroup: number
  readonly inodeBytes: number
  readonly descriptorBytes: number
}

/** What an image must not be. */
export function damaged(what: string) {
  return accelError('ERR_ACCEL_INVALID_ARGUMENT', `The file system is damaged: ${what}`)
}

export const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/**
 * Reads the superblock of a disk of `sizeBytes`. `ERR_ACCEL_INVALID_ARGUMENT` where there is none, or it contradicts itself or the disk;
 * `ERR_ACCEL_UNSUPPORTED` with the names of the features that this reader does not have.
 */
export function decodeSuperblock(bytes: Uint8Array, sizeBytes: number): Superblock {
  const view = viewOf(bytes)
  const u16 = (at: number) => view.getUint16(at, true)
  const u32 = (at: number) => view.getUint32(at, true)
  if (u16(0x38) !== MAGIC) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `There is no ext2, ext3 or ext4 file system at the start of the namespace: wanted 0x${MAGIC.toString(16)} at byte 1080, found 0x${u16(0x38).toString(16)}. A disk with partitions is not read`,
    )
  }
  const features = u32(0x4c) === 0 ? 0 : u32(0x60)
  checkFeatures(features)
  const wide = (features & incompatible['64bit']) !== 0
  const extents = (features & incompatible.extents) !== 0
  if (u32(0x18) > MAX_BLOCK_LOG) throw damaged(`blocks of 2^${10 + u32(0x18)} bytes`)
  const blockBytes = 1024 << u32(0x18)
  const superblock: Superblock = {
    version: extents ? 'ext4' : (u32(0x5c) & HAS_JOURNAL) !== 0 ? 'ext3' : 'ext2',
    blockBytes,
    blocks: u32(0x4) + (wide ? u32(0x150) * 2 ** 32 : 0),
    firstBlock: u32(0x14),
    blocksPerGroup: u32(0x20),
    inodes: u32(0x0),
    inodesPerGroup: u32(0x28),
    inodeBytes: u32(0x4c) === 0 ? 128 : u16(0x58),
    descriptorBytes: wide ? u16(0xfe) : 32,
  }
  checkSuperblock(superblock, sizeBytes, wide)
  return superblock
}

function checkFeatures(features: number): void {
  if ((features & incompatible.needsRecovery) !== 0) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      'The file system was not unmounted, and its journal holds what is not in its place yet: e2fsck puts it there',
    )
  }
  const strange = features & ~supported
  if (strange === 0) return
  const names = Object.entries(incompatible).flatMap(([name, bit]) => ((strange & bit) !== 0 ? [name] : []))
  throw accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `The file system has features that this reader does not: ${names.join(', ') || 'unknown ones'} (0x${(strange >>> 0).toString(16)})`,
  )
}

function checkSuperblock(superblock: Superblock, sizeBytes: number, wide: boolean): void {
  const { blockBytes, blocks, firstBlock, blocksPerGroup, inodes, inodesPerGroup } = superblock
  const { inodeBytes, descriptorBytes } = superblock
  if (blocks * blockBytes > sizeBytes)
    throw damaged(`it has ${blocks} blocks of ${blockBytes} bytes, and the disk ${sizeBytes} bytes`)
  if (firstBlock >= blocks || blocksPerGroup === 0 || inodesPerGroup === 0)
    throw damaged(
      `${blocks} blocks from ${firstBlock} on, ${blocksPerGroup} blocks and ${inodesPerGroup} inodes in a group`,
    )
  const groups = Math.ceil((blocks - firstBlock) / blocksPerGroup)
  if (inodes > groups * inodesPerGroup)
    throw damaged(`${inodes} inodes in ${groups} groups of ${inodesPerGroup}`)
  if (inodeBytes < 128 || inodeBytes > blockBytes || !isPowerOfTwo(inodeBytes))
    throw damaged(`inodes of ${inodeBytes} bytes`)
  if (descriptorBytes < (wide ? 64 : 32) || descriptorBytes > blockBytes || !isPowerOfTwo(descriptorBytes))
    throw damaged(`group descriptors of ${descriptorBytes} bytes`)
}

const isPowerOfTwo = (value: number) => (value & (value - 1)) === 0

/** Kinds of inodes, by the upper four bits of i_mode (inodes.rst). */
const types: Readonly<Record<number, FileType>> = {
  1: 'fifo',
  2: 'character device',
  4: 'directory',
  6: 'block device',
  8: 'file',
  10: 'link',
  12: 'socket',
}
export type FileType = 'file' | 'directory' | 'link' | 'fifo' | 'socket' | 'character device' | 'block device'

export const INODE_BYTES = 128
/** The part of an inode that says where its data is: a tree of extents, 15 block numbers, or a short link's target. */
export const MAP_BYTES = 60
/** i_flags (inodes.rst). */
const FLAG_COMPRESSED = 0x4
const FLAG_ENCRYPTED = 0x800
const FLAG_EXTENTS = 0x8_0000
const FLAG_INLINE = 0x1000_0000

/** A file, directory or whatever else. */
export interface Inode {
  readonly number: number
  readonly type: FileType
  /** The twelve bits of the mode below the type. */
  readonly permissions: number
  readonly sizeBytes: number
  /** Its map is a tree of extents; else block numbers. */
  readonly extents: boolean
  readonly map: Uint8Array
}

/** Reads the first 128 bytes of an inode. */
export function decodeInode(number: number, bytes: Uint8Array): Inode {
  const view = viewOf(bytes)
  const mode = view.getUint16(0, true)
  const flags = view.getUint32(0x20, true)
  const type = types[mode >> 12]
  if (type === undefined || view.getUint16(0x1a, true) === 0)
    throw damaged(`inode ${number} is in use, and is none (mode 0x${mode.toString(16)})`)
  for (const [flag, what] of [
    [FLAG_COMPRESSED, 'compressed'],
    [FLAG_ENCRYPTED, 'encrypted'],
    [FLAG_INLINE, 'inline'],
  ] as const) {
    if ((flags & flag) !== 0)
      throw accelError('ERR_ACCEL_UNSUPPORTED', `Inode ${number} has ${what} data, which is not read here`)
  }
  return {
    number,
    type,
    permissions: mode & 0xfff,
    sizeBytes: view.getUint32(0x4, true) + view.getUint32(0x6c, true) * 2 ** 32,
    extents: (flags & FLAG_EXTENTS) !== 0,
    map: bytes.slice(0x28, 0x28 + MAP_BYTES),
  }
}

/** A name in a directory. */
export interface DirectoryEntry {
  readonly name: string
  readonly inode: number
}

/** The entries of one block of a directory (directory.rst), without "." and ".."; those of an index look empty (there, "htree"). */
export function decodeEntries(block: Uint8Array, inode: number): DirectoryEntry[] {
  const view = viewOf(block)
  const entries: DirectoryEntry[] = []
  for (let at = 0; at < block.length; ) {
    const left = block.length - at
    const stored = left < 8 ? 0 : view.getUint16(at + 4, true)
    // ext4_rec_len_from_disk: blocks of 64 KiB do not fit 16 bits.
    const length = (stored === 0xffff || stored === 0) && left === 0x1_0000 ? left : stored
    // One byte even where the next is no type: name_len is at most 255, and a block's checksum has a mark there (struct ext4_dir_entry_tail).
    const nameBytes = block[at + 6]
    if (length < 8 || length % 4 !== 0 || length > left || nameBytes > length - 8)
      throw damaged(`an entry of directory ${inode} has ${stored} bytes, where ${left} are left of its block`)
    const name = Buffer.from(block.subarray(at + 8, at + 8 + nameBytes)).toString()
    const named = view.getUint32(at, true)
    if (named !== 0 && name !== '.' && name !== '..') {
      if (name === '' || /[/\0]/.test(name))
        throw damaged(`directory ${inode} has a name with / or 0 in it, or none`)
      entries.push({ name, inode: named })
    }
    at += length
  }
  return entries
}
