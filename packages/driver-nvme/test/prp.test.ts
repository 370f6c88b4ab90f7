import fc from 'fast-check'
import t from 'tap'
import { listBytes, MAX_TRANSFER_BYTES } from '../src/prp.js'
import { bareQueue, indifferent } from './bare.js'

const PAGE = 4096n

/**
 * Walks PRP1 and PRP2 as a controller does (NVMe base 1.4, 4.3 and 4.4), from the words of a command and memory by I/O address. Answers the
 * pieces of memory, and the addresses of the list pages that it read. Knows nothing of the driver.
 */
function walk(command: Int32Array, sizeBytes: bigint, read: (address: bigint) => bigint) {
  const pair = (at: number) =>
    BigInt.asUintN(32, BigInt(command[at]!)) | (BigInt(command[at + 1]! >>> 0) << 32n)
  const [first, second] = [pair(6), pair(8)]
  const pieces: [bigint, bigint][] = []
  const lists: bigint[] = []
  let left = sizeBytes
  const add = (address: bigint) => {
    const size = left < PAGE - (address % PAGE) ? left : PAGE - (address % PAGE)
    const last = pieces.at(-1)
    if (last !== undefined && last[0] + last[1] === address) last[1] += size
    else pieces.push([address, size])
    left -= size
  }
  if (first % 4n !== 0n) throw new Error(`PRP1 is 0x${first.toString(16)}`)
  add(first)
  if (left === 0n) {
    if (second !== 0n) throw new Error('PRP2 is not 0')
    return { pieces, lists }
  }
  if (left <= PAGE) {
    if (second % PAGE !== 0n) throw new Error('PRP2 has an offset')
    add(second)
    return { pieces, lists }
  }
  if (second % 8n !== 0n) throw new Error('the list is not aligned')
  lists.push(second)
  for (let at = second; left > 0n; at += 8n) {
    let entry = read(at)
    if (entry % PAGE !== 0n) throw new Error(`an entry has an offset: 0x${entry.toString(16)}`)
    if (at % PAGE === PAGE - 8n && left > PAGE) {
      lists.push(entry)
      at = entry
      entry = read(at)
    }
    add(entry)
  }
  return { pieces, lists }
}

/** Submits a transfer and walks it: it has to be the memory that was named, in one piece. */
function check(
  bare: ReturnType<typeof bareQueue>,
  lists: bigint,
  address: bigint,
  sizeBytes: number,
): number {
  const { queue, sq, complete } = bare
  const slot = queue.completions % 8
  const cid = queue.submit(
    2,
    1,
    Number(BigInt.asIntN(32, address)),
    Number(BigInt.asIntN(32, address >> 32n)),
    sizeBytes,
    0,
    0,
    0,
    indifferent,
  )
  const all = BigInt(bare.lists.length * 4)
  const own = all / 8n
  const read = (at: bigint) => {
    const from = at - lists - own * BigInt(cid)
    if (from < 0n || from >= own) throw new Error(`0x${at.toString(16)} is in no list of command ${cid}`)
    const word = Number(at - lists) / 4
    return BigInt.asUintN(32, BigInt(bare.lists[word]!)) | (BigInt(bare.lists[word + 1]! >>> 0) << 32n)
  }
  const found = walk(sq.subarray(slot * 16, slot * 16 + 16), BigInt(sizeBytes), read)
  const [piece, ...more] = found.pieces
  if (more.length > 0 || piece![0] !== address || piece![1] !== BigInt(sizeBytes))
    throw new Error(`${sizeBytes} bytes from 0x${address.toString(16)}: ${found.pieces.map(String)}`)
  complete(cid, (slot + 1) % 8)
  queue.poll()
  return found.lists.length
}

t.test('how much memory a list takes', async (t) => {
  t.equal(listBytes(8192), 64)
  t.equal(listBytes(128 * 1024), 256)
  t.equal(listBytes(2 << 20), 4096, 'a page of 512 entries')
  t.equal(listBytes((2 << 20) + 4096), 8192, 'one more entry is a page more, as the way there takes one')
  t.equal(listBytes(1023 * 4096), 8192, '511 and 512 entries')
  t.equal(listBytes(1024 * 4096), 12288)
  t.equal(listBytes(MAX_TRANSFER_BYTES), 17 * 4096)
})

t.test('the borders of lists and their pages', async (t) => {
  const LISTS = 0xffff_8000n // some lists lie over a border of 4 GiB
  const bare = bareQueue({ entries: 8, maxTransferBytes: MAX_TRANSFER_BYTES, lists: LISTS })
  const pages = (count: number, address = 0x5_0000_0000n, less = 0) =>
    check(bare, LISTS, address, count * 4096 - less)
  for (let round = 0; round < 8; round++) {
    t.equal(pages(1), 0)
    t.equal(pages(2), 0)
    t.equal(pages(3), 1)
    t.equal(pages(513), 1, 'PRP1 and a full page')
    t.equal(pages(514), 2)
    t.equal(pages(1 + 511 + 512), 2)
    t.equal(pages(1 + 511 + 513), 3)
    t.equal(check(bare, LISTS, 0x5_0000_0ffcn, MAX_TRANSFER_BYTES), 17, 'the longest with the least of PRP1')
    t.equal(pages(8192, 0xff_0000_0000n - 0x100_0000n), 17, 'over a border of 4 GiB')
  }
})

t.test('any transfer is walked to what it names', async (t) => {
  const pageBelow = (top: bigint) => fc.bigInt({ min: 0n, max: top / PAGE - 1n }).map((page) => page * PAGE)
  fc.assert(
    fc.property(
      fc.record({
        lists: fc.oneof(pageBelow(1n << 40n), fc.constantFrom(0xffff_0000n, 0x1_0000_0000n - 17n * PAGE)),
        mdts: fc.integer({ min: 1, max: 13 }),
        transfers: fc.array(
          fc.record({
            page: fc.oneof(pageBelow(1n << 48n), fc.constantFrom(0xffff_f000n, 0xffff_0000n)),
            offset: fc.integer({ min: 0, max: 1023 }).map((word) => word * 4),
            blocks: fc.double({ min: 0, max: 1, noNaN: true }),
          }),
          { minLength: 1, maxLength: 24 },
        ),
      }),
      ({ lists, mdts, transfers }) => {
        const most = Math.min(MAX_TRANSFER_BYTES, 4096 * 2 ** mdts)
        const bare = bareQueue({ entries: 8, maxTransferBytes: most, lists })
        for (const { page, offset, blocks } of transfers)
          check(bare, lists, page + BigInt(offset), 512 * Math.max(1, Math.round((blocks * most) / 512)))
      },
    ),
    { numRuns: 150 },
  )
  t.pass('in one piece')
})
