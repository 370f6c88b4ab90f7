import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { accelError } from '@uaccel/uapi'
import type { ByteSource } from './namespace.js'

/** A folder until the test ends. Its path is short, which sockets want. */
export function temporaryFolder(t: { teardown(clean: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'uaccel-test-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Bytes that look random, and are the same each time. */
export function noise(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  let state = seed
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0 // Numerical Recipes' generator
    bytes[i] = state >>> 24
  }
  return bytes
}

/** A file with data at some places, in an otherwise empty length. */
export function writeSparse(
  path: string,
  sizeBytes: number,
  places: readonly number[],
  data: Uint8Array,
): void {
  const fd = openSync(path, 'w')
  for (const place of places) writeSync(fd, data, 0, data.length, place)
  ftruncateSync(fd, sizeBytes)
  closeSync(fd)
}

/** A few files of each kind, in under 200 KiB. */
export function smallTree(folder: string): void {
  writeFileSync(join(folder, 'empty'), '')
  writeFileSync(join(folder, 'text'), 'one line\n')
  writeFileSync(join(folder, 'noise'), noise(50_000, 1))
  writeSparse(
    join(folder, 'sparse'),
    300_000,
    [8192, 40_960, 73_728, 106_496, 139_264, 172_032],
    noise(4096, 2),
  )
  mkdirSync(join(folder, 'a/b/c'), { recursive: true })
  writeFileSync(join(folder, 'a/b/c/deep'), 'deep\n')
  symlinkSync('a/b', join(folder, 'short'))
  symlinkSync(`a/${'./'.repeat(40)}b/c/deep`, join(folder, 'long'))
}

/** All that a reader has to know of: large files and directories, holes, links, names and modes of all kinds. */
export function largeTree(folder: string): void {
  smallTree(folder)
  writeFileSync(join(folder, 'block'), noise(4096, 3))
  writeFileSync(join(folder, 'large'), noise(3_000_001, 4))
  // More stretches than a node of 4 KiB has room for, and with blocks of 1 KiB two levels of nodes.
  const islands = Array.from({ length: 800 }, (_, i) => i * 8192)
  writeSparse(join(folder, 'islands'), 800 * 8192, islands, noise(1024, 5))
  mkdirSync(join(folder, 'many'))
  for (let i = 0; i < 300; i++) writeFileSync(join(folder, 'many', `${'name'.repeat(i % 50)}${i}`), `${i}`)
  mkdirSync(join(folder, 'strange'))
  for (const name of ['Ärger', '文件', ' space ', '-dash', 'x'.repeat(255), 'tab\tand\x1b[2J'])
    writeFileSync(join(folder, 'strange', name), name)
  linkSync(join(folder, 'text'), join(folder, 'again'))
  symlinkSync('/a/../text', join(folder, 'absolute'))
  symlinkSync('round', join(folder, 'round'))
  symlinkSync('x'.repeat(59), join(folder, 'target59'))
  symlinkSync('x'.repeat(60), join(folder, 'target60'))
  execFileSync('mkfifo', [join(folder, 'fifo')])
  chmodSync(join(folder, 'text'), 0o4751)
  chmodSync(join(folder, 'empty'), 0o1600)
}

/** An image in memory, which counts how often it is read, and at most as often as it says. */
export class Memory implements ByteSource {
  readonly bytes: Uint8Array
  readonly mostReads: number
  reads = 0

  constructor(bytes: Uint8Array, mostReads = Number.POSITIVE_INFINITY) {
    this.bytes = bytes
    this.mostReads = mostReads
  }

  get sizeBytes(): number {
    return this.bytes.length
  }

  async read(offset: number, sizeBytes: number): Promise<Uint8Array> {
    if (++this.reads > this.mostReads) throw new Error(`more than ${this.mostReads} reads`)
    if (offset >= 0 && offset + sizeBytes <= this.bytes.length)
      return this.bytes.slice(offset, offset + sizeBytes)
    throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${sizeBytes} bytes from ${offset} on of ${this.bytes.length}`)
  }
}
