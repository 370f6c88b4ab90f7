import type { DmaDomain, DmaMapping, Iova } from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'

/** How a device copies memory, for {@link testDma}: what `probe` may answer as `dmaTest`. */
export interface DmaTester {
  /** Bytes that one copy moves at most. */
  readonly maxBytes: number
  /** What addresses and sizes are multiples of: a power of two, a page (4096) at most; 1 unless told. */
  readonly alignBytes?: number
  /**
   * Has the device read so many bytes at one I/O address and write them to another, by whatever way it has, and settles when it is done
   * with both. The addresses go to the device as they are: they are chosen to find out what it makes of them.
   */
  copy(from: Iova, to: Iova, sizeBytes: number, context: { readonly signal: AbortSignal }): Promise<void>
}

/** A copy that did not do what it was told. */
export interface DmaFault {
  readonly from: Iova
  readonly to: Iova
  readonly sizeBytes: number
  /** `inside`: a byte of the target; `outside`: one before or after it; `source`: the source was changed; `failed`: the copy threw. */
  readonly where: 'inside' | 'outside' | 'source' | 'failed'
  /** The first wrong byte, counted from the first byte of the target, or of the source; absent where the copy threw. */
  readonly at?: number
  readonly wanted?: number
  readonly found?: number
  readonly message?: string
}

/** What became of an address that has a bit set above all that the device was known to drive. */
export interface DmaWidth {
  /** Bits that the device drives, as far as could be tested. */
  readonly bits: number
  /** True where the next bit was tested, and is not driven: the device has no more. */
  readonly exact: boolean
  /** What the device did with an address of one bit more. */
  readonly beyond?: {
    readonly access: 'read' | 'write'
    readonly iova: Iova
    /** `aliased`: it went to the same address without that bit, `lost`: nowhere that was looked at, `failed`: the copy threw. */
    readonly outcome: 'aliased' | 'lost' | 'failed'
    /** Where it went to. */
    readonly alias?: Iova
    readonly message?: string
  }
}

/** What {@link testDma} found. */
export interface DmaReport {
  readonly copies: number
  readonly bytes: number
  /** The first copy that went wrong, after which no other was tried. */
  readonly fault?: DmaFault
  /** Absent after a fault, and where nothing translates: memory is where it is then. */
  readonly width?: DmaWidth
}

export interface DmaTestOptions {
  readonly signal?: AbortSignal
  /** Called before each copy. */
  readonly onCopy?: (done: number) => void
}

const PAGE = 4096
/** Before and behind what is copied, watched for bytes that nobody should write. */
const GUARD = PAGE
/** The lowest bit that is asked for, and the highest: no machine that we know of translates more than 52. */
const FIRST_BIT = 16
const LAST_BIT = 51
/** A decoy as high as this would take too much memory to stand behind each bit. */
const MAX_DECOY = 1 << 24

/** One page at an I/O address, and its bytes. */
interface Page {
  readonly iova: Iova
  readonly bytes: Uint8Array
}

/**
 * Walks buffers through a device's copy: sizes, offsets, page crossings and patterns, each compared in the target, around it and in the
 * source; then addresses with one bit more each time, until the device drops one. `domain` reaches all that the IOMMU translates: make
 * it with 64 bits on the transport of the device, beside the driver's own.
 *
 * After a copy that threw, the device may still be at it: the memory stays mapped until the domain is destroyed, which is for the caller
 * to do once the device is at rest. Errors: those of `DmaDomain.map`, and the signal's reason.
 */
export async function testDma(
  tester: DmaTester,
  domain: DmaDomain,
  { signal = new AbortController().signal, onCopy }: DmaTestOptions = {},
): Promise<DmaReport> {
  const { maxBytes, alignBytes = 1 } = tester
  if (
    !(
      Number.isInteger(maxBytes) &&
      maxBytes > 0 &&
      Number.isInteger(alignBytes) &&
      alignBytes > 0 &&
      alignBytes <= maxBytes &&
      PAGE % alignBytes === 0
    )
  ) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `dmaTest of ${maxBytes} bytes at most, aligned to ${alignBytes}: wanted whole numbers, at least one aligned unit, and a power of two up to ${PAGE} as alignment`,
    )
  }
  let [copies, bytes] = [0, 0]
  const copy = async (from: Iova, to: Iova, sizeBytes: number): Promise<void> => {
    signal.throwIfAborted()
    onCopy?.(copies)
    copies++
    bytes += sizeBytes
    await tester.copy(from, to, sizeBytes, { signal })
  }
  const sizes = sizesFor(maxBytes, alignBytes)
  const room = GUARD + PAGE + sizes.at(-1)! + GUARD // an offset is less than a page
  const [source, target] = [newMemory(domain, room), newMemory(domain, room)]
  for (const [i, { from, to, sizeBytes }] of cases(sizes, alignBytes).entries()) {
    const fault = await tryCopy(copy, source, target, from, to, sizeBytes, i)
    signal.throwIfAborted()
    if (fault === undefined) continue
    if (fault.where !== 'failed') for (const { buffer } of [source, target]) buffer.destroy()
    return { copies, bytes, fault }
  }
  for (const { buffer } of [source, target]) buffer.destroy()
  const width = domain.translates ? await findWidth(copy, domain, tester) : undefined
  signal.throwIfAborted()
  return { copies, bytes, ...(width && { width }) }
}

type Copy = (from: Iova, to: Iova, sizeBytes: number) => Promise<void>

function newMemory(domain: DmaDomain, sizeBytes: number): DmaMapping {
  const buffer = domain.createBuffer(sizeBytes, { name: 'dma test' })
  try {
    return domain.map(buffer)
  } catch (error) {
    buffer.destroy()
    throw error
  }
}

/** One unit, a few, what is odd, a cache line and around it, a page, the most. */
function sizesFor(maxBytes: number, alignBytes: number): number[] {
  const most = maxBytes - (maxBytes % alignBytes)
  const wanted = [1, 3, 8, 63, 64, 65, 1000, PAGE - 1, PAGE, 3 * PAGE + 5, Math.min(most, 1 << 16), most]
  const aligned = wanted.map((size) => Math.max(alignBytes, size - (size % alignBytes)))
  return [...new Set(aligned)].filter((size) => size <= most && size <= 1 << 20).sort((a, b) => a - b)
}

interface Case {
  readonly from: number
  readonly to: number
  readonly sizeBytes: number
}

/** Each size from the start of a page, and, in turn, shifted or across the end of a page at either side. */
function cases(sizes: readonly number[], alignBytes: number): Case[] {
  const aligned = (offset: number) => offset - (offset % alignBytes)
  return sizes.flatMap((sizeBytes, i) => {
    const crossing = aligned(Math.max(0, PAGE - Math.ceil(Math.min(sizeBytes, PAGE) / 2)))
    const odd = aligned(65 + 2 * i)
    const shifts = [
      { from: odd, to: 0 },
      { from: 0, to: odd },
      { from: crossing, to: crossing },
    ]
    return [
      { from: 0, to: 0, sizeBytes },
      { ...shifts[i % shifts.length]!, sizeBytes },
    ]
  })
}

/** What is to arrive: bits that alternate, all, none, each place its own, and noise. */
const patterns: readonly ((i: number) => number)[] = [
  (i) => (i & 1 ? 0xaa : 0x55),
  () => 0xff,
  () => 0,
  (i) => (i + (i >> 8)) & 0xff,
  (i) => (Math.imul(i + 1, 0x9e3779b1) >>> 24) & 0xff,
]

async function tryCopy(
  copy: Copy,
  source: DmaMapping,
  target: DmaMapping,
  fromOffset: number,
  toOffset: number,
  sizeBytes: number,
  index: number,
): Promise<DmaFault | undefined> {
  const [fromAt, toAt] = [GUARD + fromOffset, GUARD + toOffset]
  const from = (source.iova + BigInt(fromAt)) as Iova
  const to = (target.iova + BigInt(toAt)) as Iova
  const pattern = patterns[index % patterns.length]!
  const sent = source.buffer.u8
  const got = target.buffer.u8
  for (let i = 0; i < sent.length; i++) sent[i] = pattern(i)
  const before = sent.slice()
  for (let i = 0; i < got.length; i++) got[i] = ~pattern(i - toAt + fromAt) & 0xff
  const background = got.slice()
  const place = { from, to, sizeBytes }
  try {
    await copy(from, to, sizeBytes)
  } catch (error) {
    return { ...place, where: 'failed', message: error instanceof Error ? error.message : String(error) }
  }
  const wrong = (where: DmaFault['where'], at: number, start: number, wanted: number, found: number) => ({
    ...place,
    where,
    at: at - start,
    wanted,
    found,
  })
  for (let i = 0; i < got.length; i++) {
    const inside = i >= toAt && i < toAt + sizeBytes
    const wanted = inside ? before[i - toAt + fromAt]! : background[i]!
    if (got[i] !== wanted) return wrong(inside ? 'inside' : 'outside', i, toAt, wanted, got[i]!)
  }
  for (let i = 0; i < sent.length; i++)
    if (sent[i] !== before[i]) return wrong('source', i, fromAt, before[i]!, sent[i]!)
  return undefined
}

/**
 * Maps memory at 2^k for one k after the other, and at the same address without that bit something else. A device that drops the bit
 * reads, or writes, that.
 */
async function findWidth(
  copy: Copy,
  domain: DmaDomain,
  { maxBytes, alignBytes = 1 }: DmaTester,
): Promise<DmaWidth> {
  const sizeBytes = Math.min(64, maxBytes) - (Math.min(64, maxBytes) % alignBytes) || alignBytes
  const decoyMemory = newMemory(domain, PAGE)
  const scratchMemory = newMemory(domain, PAGE)
  const decoy = pageAt(decoyMemory, 0)
  const scratch = pageAt(scratchMemory, 0)
  const offset = decoy.iova < BigInt(MAX_DECOY) ? Number(decoy.iova) : 0
  let bits = Math.max(FIRST_BIT, bitsOf(decoy.iova), bitsOf(scratch.iova))
  for (let bit = bits; bit <= LAST_BIT; bit++) {
    const buffer = domain.createBuffer(offset + PAGE, { name: 'dma test' })
    let memory: DmaMapping
    try {
      memory = domain.map(buffer, { alignBytes: 2 ** bit, addressBits: bit + 1 })
    } catch (error) {
      buffer.destroy()
      if (!isAccelError(error, 'ERR_ACCEL_NO_IOVA')) throw error
      continue // taken, or not translated
    }
    const beyond = await tryBit(copy, pageAt(memory, offset), decoy, scratch, sizeBytes)
    if (beyond?.outcome === 'failed') return { bits, exact: true, beyond }
    buffer.destroy()
    if (beyond !== undefined) {
      for (const { buffer } of [decoyMemory, scratchMemory]) buffer.destroy()
      return { bits: bit, exact: true, beyond }
    }
    bits = bit + 1
  }
  for (const { buffer } of [decoyMemory, scratchMemory]) buffer.destroy()
  return { bits, exact: false }
}

const bitsOf = (address: bigint) => address.toString(2).length

function pageAt({ iova, buffer }: DmaMapping, offset: number): Page {
  return { iova: (iova + BigInt(offset)) as Iova, bytes: buffer.u8.subarray(offset, offset + PAGE) }
}

async function tryBit(
  copy: Copy,
  wide: Page,
  decoy: Page,
  scratch: Page,
  sizeBytes: number,
): Promise<DmaWidth['beyond']> {
  const holds = ({ bytes }: Page, value: number) =>
    bytes.subarray(0, sizeBytes).every((byte) => byte === value)
  const [WIDE, DECOY, SCRATCH] = [0x3c, 0xc3, 0x99]
  for (const access of ['read', 'write'] as const) {
    wide.bytes.fill(WIDE)
    decoy.bytes.fill(DECOY)
    scratch.bytes.fill(SCRATCH)
    const [from, to] = access === 'read' ? [wide, scratch] : [scratch, wide]
    const what = { access, iova: wide.iova }
    try {
      await copy(from.iova, to.iova, sizeBytes)
    } catch (error) {
      return { ...what, outcome: 'failed', message: error instanceof Error ? error.message : String(error) }
    }
    if (access === 'read' ? holds(scratch, WIDE) : holds(wide, SCRATCH)) continue
    const aliased = access === 'read' ? holds(scratch, DECOY) : holds(decoy, SCRATCH)
    return aliased ? { ...what, outcome: 'aliased', alias: decoy.iova } : { ...what, outcome: 'lost' }
  }
  return undefined
}
