import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import type { DmaAccess, Iova } from '@uaccel/memory'
import { abi, createSealedMemory, sys } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { DmaSpace } from './dma-space.js'
import { PART_BYTES, SharedFiles } from './shared-files.js'
import { Violations } from './violations.js'

const PAGE = 4096

function open(t: Test, requireSealed = true) {
  const violations = new Violations()
  const device = { name: 'dev', addressBits: 64, violations, checkPresent() {}, checkMayTransfer() {} }
  const space = new DmaSpace(device, { requireSealed })
  t.teardown(() => space.clear())
  return space
}

/** Memory of some pages, mapped nowhere, and how often this process maps it. */
function memory(t: Test, name: string, pages: number, sealed = true) {
  const sizeBytes = pages * PAGE
  const fd = sealed ? createSealedMemory(name, sizeBytes).fd : sys.memfdCreate(name)
  if (!sealed) sys.ftruncate(fd, sizeBytes)
  t.teardown(() => sys.close(fd))
  const lines = () =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.includes(`/memfd:${name} `))
      .map((line) => line.split(' '))
  const kernelMappings = () => lines().map(([, access]) => access!)
  const mappedBytes = () => lines().reduce((sum, [range]) => sum + sizeOf(range!), 0)
  return { fd, kernelMappings, mappedBytes }
}

function request(
  fd: number,
  iova: number | bigint,
  page: number,
  { pages = 1, access = 'readwrite' }: { pages?: number; access?: DmaAccess } = {},
) {
  const sizeBytes = pages * PAGE
  return { iova: BigInt(iova) as Iova, sizeBytes, access, address: 0n, fd, fdOffset: page * PAGE }
}

/** Bytes of a range as /proc writes it. */
function sizeOf(range: string): number {
  const [start, end] = range.split('-').map((address) => Number(`0x${address}`))
  return end! - start!
}

/** Another descriptor of the same file, opened anew. */
function reopen(t: Test, fd: number, flags: number): number {
  const again = openSync(`/proc/self/fd/${fd}`, flags)
  t.teardown(() => closeSync(again))
  return again
}

t.test('10,000 pages of one file, each by itself, are one mapping', async (t) => {
  const space = open(t)
  const { fd, kernelMappings } = memory(t, 'shared-many', 10_000)
  // In another order than that of the file.
  const iova = (page: number) => ((page * 7919) % 10_000) * 2 * PAGE
  for (let page = 0; page < 10_000; page++) {
    const duplicate = sys.dup(fd)
    space.map(request(duplicate, iova(page), page))
    sys.close(duplicate)
  }
  t.same(kernelMappings(), ['rw-s'])
  for (const page of [0, 4567, 9999]) space.write(BigInt(iova(page) + 8), Uint8Array.of(page, page >> 8))
  const bytes = new Uint8Array(2)
  for (const page of [0, 4567, 9999]) {
    sys.pread(fd, bytes, page * PAGE + 8)
    t.same(bytes, Uint8Array.of(page, page >> 8), `page ${page}`)
  }
  t.throws(() => space.read(BigInt(iova(1) + PAGE), bytes), { code: 'ERR_ACCEL_DMA_FAULT' }, 'between two')
  for (let page = 0; page < 9999; page++) space.unmap(BigInt(iova(page)) as Iova, PAGE)
  t.same(kernelMappings(), ['rw-s'], 'one range is left')
  space.unmap(BigInt(iova(9999)) as Iova, PAGE)
  t.same(kernelMappings(), [], 'the last one unmaps it')
})

t.test('each range has the access that it was mapped for', async (t) => {
  const space = open(t)
  const { fd, kernelMappings } = memory(t, 'shared-access', 4)
  space.map(request(fd, 0, 0))
  space.map(request(fd, PAGE, 1, { access: 'read' }))
  space.map(request(fd, 2 * PAGE, 2, { access: 'write' }))
  t.same(kernelMappings().sort(), ['r--s', 'rw-s'], 'what is only read has no writable view')
  const code = 'ERR_ACCEL_DMA_FAULT'
  t.throws(() => space.write(BigInt(PAGE), new Uint8Array(1)), { code })
  t.throws(() => space.read(BigInt(2 * PAGE), new Uint8Array(1)), { code })
  t.throws(() => space.write(BigInt(PAGE - 1), new Uint8Array(2)), { code })
  space.write(BigInt(PAGE - 1), Uint8Array.of(9))
})

t.test('a descriptor that may not write gets no help from one that may', async (t) => {
  for (const sealed of [true, false]) {
    const space = open(t, sealed)
    const { fd } = memory(t, `shared-modes-${sealed}`, 4, sealed)
    space.map(request(fd, 0, 0))
    const code = 'ERR_ACCEL_PERMISSION'
    const reading = reopen(t, fd, constants.O_RDONLY)
    for (const access of ['readwrite', 'write'] as const)
      t.throws(() => space.map(request(reading, PAGE, 1, { access })), { code }, access)
    space.map(request(reading, PAGE, 1, { access: 'read' }))
    const writing = reopen(t, fd, constants.O_WRONLY)
    t.throws(
      () => space.map(request(writing, 2 * PAGE, 2, { access: 'write' })),
      { code },
      'mmap reads always',
    )
    t.equal(space.size, 2)
  }
  const space = open(t, false)
  const { fd } = memory(t, 'shared-sealed-later', 4, false)
  space.map(request(fd, 0, 0))
  sys.addSeals(fd, abi.F_SEAL_FUTURE_WRITE)
  t.throws(() => space.map(request(fd, PAGE, 1)), { code: 'ERR_ACCEL_PERMISSION' }, 'sealed since')
  space.map(request(fd, PAGE, 1, { access: 'read' }))
  const path = reopen(t, fd, abi.O_PATH)
  t.throws(() => space.map(request(path, 2 * PAGE, 2, { access: 'read' })), { name: 'AccelError' }, 'O_PATH')
})

t.test('a range that its owner maps anew, to be read only, in the middle of a write to it', async (t) => {
  const space = open(t)
  const { fd } = memory(t, 'shared-swapped', 1)
  const swap = () => {
    space.unmap(BigInt(PAGE) as Iova, PAGE)
    space.map(request(fd, PAGE, 0, { access: 'read' }))
  }
  space.addRemote(0n as Iova, PAGE, 'readwrite', { read: () => t.fail('a read'), write: swap })
  space.map(request(fd, PAGE, 0))
  t.throws(() => space.write(BigInt(PAGE - 8), new Uint8Array(16).fill(1)), { code: 'ERR_ACCEL_DMA_FAULT' })
  const bytes = new Uint8Array(8)
  sys.pread(fd, bytes, 0)
  t.same(bytes, new Uint8Array(8), 'nothing was written to it')
})

t.test('a range lies within its file as that is now', async (t) => {
  const space = open(t, false)
  const { fd, kernelMappings } = memory(t, 'shared-sizes', 4, false)
  const code = 'ERR_ACCEL_OUT_OF_RANGE'
  t.throws(() => space.map(request(fd, 0, 3, { pages: 2 })), { code })
  t.throws(() => space.map({ ...request(fd, 0, 0), fdOffset: 100 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.same(kernelMappings(), [])
  space.map(request(fd, 0, 0))
  sys.ftruncate(fd, 8 * PAGE)
  space.map(request(fd, PAGE, 7))
  space.write(BigInt(PAGE), Uint8Array.of(5))
  const bytes = new Uint8Array(1)
  sys.pread(fd, bytes, 7 * PAGE)
  t.same(bytes, Uint8Array.of(5), 'it has grown')
  t.equal(kernelMappings().length, 2)
  space.unmap(0n as Iova, PAGE)
  t.equal(kernelMappings().length, 1, 'the shorter mapping goes with its last range')
  space.map(request(fd, 0, 0))
  t.equal(kernelMappings().length, 1)
  sys.ftruncate(fd, 4 * PAGE + 1)
  t.throws(() => space.map(request(fd, 2 * PAGE, 7)), { code }, 'it has shrunk')
  t.throws(() => space.map(request(fd, 2 * PAGE, 4)), { code }, 'half a page')
  space.clear()
  t.same(kernelMappings(), [])
})

t.test('a file larger than a view can be is mapped in parts', async (t) => {
  const space = open(t)
  const pages = PART_BYTES / PAGE
  const { fd, mappedBytes } = memory(t, 'shared-large', 2 * pages + 16)
  space.map(request(fd, 0, pages + 8))
  t.equal(mappedBytes(), PART_BYTES, 'only what is needed')
  space.map(request(fd, 1n << 40n, 1, { pages: 2 * pages }))
  t.equal(mappedBytes(), 2 * PART_BYTES + 16 * PAGE)
  const border = (1n << 40n) + BigInt(PART_BYTES - PAGE)
  const data = Uint8Array.from({ length: 300 }, (_, i) => i)
  space.write(border - 100n, data)
  const bytes = new Uint8Array(300)
  sys.pread(fd, bytes, PART_BYTES - 100)
  t.same(bytes, data, 'a transfer goes over the border')
  space.read(border - 100n, bytes.fill(0))
  t.same(bytes, data)
  t.equal(space.view(border - 100n, 300, 'read'), undefined, 'a view does not')
  t.same(space.view(border, 200, 'read'), data.subarray(100))
  space.unmap((1n << 40n) as Iova, 2 * PART_BYTES)
  t.equal(mappedBytes(), 2 * PART_BYTES + 16 * PAGE, 'a file is unmapped as a whole')
  space.clear()
  t.equal(mappedBytes(), 0)
})

t.test('what could use up the process is refused, and nothing of it stays', async (t) => {
  const [first, second] = [memory(t, 'shared-greedy-1', 4), memory(t, 'shared-greedy-2', 4)]
  for (const limits of [{ maxMappings: 1 }, { maxBytes: 7 * PAGE }]) {
    const files = new SharedFiles('files', limits)
    const taken = files.open(first.fd, 0, PAGE, true)
    const more = files.open(first.fd, PAGE, PAGE, true)
    const expected = { code: 'ERR_ACCEL_MAPPING_LIMIT', errno: 'ENOSPC' }
    t.throws(() => files.open(second.fd, 0, PAGE, true), expected)
    t.throws(() => files.open(first.fd, 0, PAGE, false), expected, 'by another access')
    t.same([first.kernelMappings(), second.kernelMappings()], [['rw-s'], []])
    files.close(taken)
    files.close(more)
    const next = files.open(second.fd, 0, PAGE, true)
    t.same([first.kernelMappings(), second.kernelMappings()], [[], ['rw-s']])
    files.close(next)
  }
})
