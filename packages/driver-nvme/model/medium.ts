import type { ModelContext } from '@uaccel/model'
import { Failure, fromHost, toHost } from './transfer.js'

const INVALID_OPCODE = 0x01
const INVALID_FIELD = 0x02
const INVALID_NAMESPACE = 0x0b
const LBA_OUT_OF_RANGE = 0x80
const COMMAND_SIZE_LIMIT = 0x183
const COMPARE_FAILURE = 0x285
const EVERY_NAMESPACE = 0xffff_ffff

interface Namespace {
  readonly blocks: number
  readonly blockBytes: number
  readonly contents?: Uint8Array
  readonly bytes: Uint8Array
}

/** Limits of a copy (TP 4065): source ranges, blocks of each, blocks of all. */
export interface CopyLimits {
  readonly ranges: number
  readonly rangeBlocks: number
  readonly blocks: number
}

/** The namespaces, what the controller says of them, and the commands of the NVM command set. */
export class Medium {
  readonly #context: ModelContext
  readonly #namespaces: readonly Namespace[]
  readonly #mdts: number
  readonly #copyLimits: CopyLimits
  readonly #offersShadow: boolean
  #reads = 0
  #writes = 0

  constructor(
    context: ModelContext,
    namespaces: readonly Omit<Namespace, 'bytes'>[],
    mdts: number,
    copyLimits: CopyLimits,
    offersShadow: boolean,
  ) {
    this.#context = context
    this.#mdts = mdts
    this.#copyLimits = copyLimits
    this.#offersShadow = offersShadow
    this.#namespaces = namespaces.map((each) => ({
      ...each,
      bytes: each.contents ?? new Uint8Array(each.blocks * each.blockBytes),
    }))
  }

  /** Runs a command of an I/O queue; throws its failure. */
  execute(command: DataView): void {
    const opcode = command.getUint8(0)
    const nsid = command.getUint32(4, true)
    const namespace = this.#namespaces[nsid - 1]
    if (namespace === undefined && !(opcode === 0x00 && nsid === EVERY_NAMESPACE))
      throw new Failure(INVALID_NAMESPACE)
    if (opcode === 0x00) {
      if ([24, 28, 32, 36, 40, 44, 48].some((at) => command.getUint32(at, true) !== 0))
        this.#context.violation('a flush has words that are not 0')
      return
    }
    if (opcode === 0x09) this.#deallocate(command, namespace!)
    else if (opcode === 0x19) this.#copy(command, namespace!)
    else this.#move(opcode, command, namespace!)
  }

  #move(opcode: number, command: DataView, { blocks, blockBytes, bytes }: Namespace): void {
    if (![1, 2, 5, 8].includes(opcode)) throw new Failure(INVALID_OPCODE)
    const first = command.getBigUint64(40, true)
    const count = command.getUint16(48, true) + 1
    if (command.getUint32(48, true) & 0x3fff_0000)
      this.#context.violation('CDW12 has bits of protection or reserved ones')
    if (first + BigInt(count) > BigInt(blocks)) throw new Failure(LBA_OUT_OF_RANGE)
    const sizeBytes = count * blockBytes
    if (opcode !== 8 && this.#mdts > 0 && sizeBytes > 4096 * 2 ** this.#mdts) throw new Failure(INVALID_FIELD)
    const part = bytes.subarray(Number(first) * blockBytes, Number(first) * blockBytes + sizeBytes)
    if (opcode === 2) {
      this.#reads++
      toHost(this.#context, command, part)
    } else if (opcode === 1) {
      this.#writes++
      part.set(fromHost(this.#context, command, sizeBytes))
    } else if (opcode === 8) part.fill(0)
    else if (Buffer.compare(fromHost(this.#context, command, sizeBytes), part) !== 0)
      throw new Failure(COMPARE_FAILURE)
  }

  /** What is not needed reads as zeroes here (DLFEAT 1). */
  #deallocate(command: DataView, { blocks, blockBytes, bytes }: Namespace): void {
    const ranges = (command.getUint32(40, true) & 0xff) + 1
    const list = new DataView(fromHost(this.#context, command, 16 * ranges).buffer)
    if ((command.getUint32(44, true) & 4) === 0) return
    for (let at = 0; at < ranges * 16; at += 16) {
      const [count, first] = [list.getUint32(at + 4, true), list.getBigUint64(at + 8, true)]
      if (first + BigInt(count) > BigInt(blocks)) throw new Failure(LBA_OUT_OF_RANGE)
      bytes.fill(0, Number(first) * blockBytes, (Number(first) + count) * blockBytes)
    }
  }

  /** Copy (TP 4065), range after range; what it names is checked before anything is written. */
  #copy(command: DataView, { blocks, blockBytes, bytes }: Namespace): void {
    const limits = this.#copyLimits
    const target = command.getBigUint64(40, true)
    const control = command.getUint32(48, true)
    if (control & 0xbfff_ff00)
      this.#context.violation('CDW12 of a copy has a format, protection or a directive')
    const ranges = (control & 0xff) + 1
    if (ranges > limits.ranges) throw new Failure(COMMAND_SIZE_LIMIT)
    const list = new DataView(fromHost(this.#context, command, 32 * ranges).buffer)
    let total = 0
    const sources: [first: number, count: number][] = []
    for (let at = 0; at < ranges * 32; at += 32) {
      const [first, count] = [list.getBigUint64(at + 8, true), list.getUint16(at + 16, true) + 1]
      if (
        [0, 4, 20, 24, 28].some((word) => list.getUint32(at + word, true) !== 0) ||
        list.getUint16(at + 18, true)
      )
        this.#context.violation('a source range of a copy has reserved or protection words that are not 0')
      if (count > limits.rangeBlocks) throw new Failure(COMMAND_SIZE_LIMIT)
      if (first + BigInt(count) > BigInt(blocks)) throw new Failure(LBA_OUT_OF_RANGE)
      sources.push([Number(first), count])
      total += count
    }
    if (total > limits.blocks) throw new Failure(COMMAND_SIZE_LIMIT)
    if (target + BigInt(total) > BigInt(blocks)) throw new Failure(LBA_OUT_OF_RANGE)
    let to = Number(target)
    const overlaps = sources.some(
      ([first, count]) => first < Number(target) + total && Number(target) < first + count,
    )
    if (overlaps) this.#context.violation('a copy whose source and target overlap')
    for (const [first, count] of sources) {
      bytes.copyWithin(to * blockBytes, first * blockBytes, (first + count) * blockBytes)
      to += count
    }
  }

  /** Identify Namespace (figure 245). */
  identify(nsid: number): Uint8Array | undefined {
    const namespace = this.#namespaces[nsid - 1]
    if (namespace === undefined) return undefined
    const view = new DataView(new ArrayBuffer(4096))
    for (const at of [0, 8, 16]) view.setBigUint64(at, BigInt(namespace.blocks), true)
    view.setUint8(33, 1)
    view.setUint16(74, this.#copyLimits.rangeBlocks, true)
    view.setUint32(76, this.#copyLimits.blocks, true)
    view.setUint8(80, this.#copyLimits.ranges - 1)
    view.setUint8(130, Math.log2(namespace.blockBytes))
    return new Uint8Array(view.buffer)
  }

  /** Identify Controller (figure 247). */
  identifyController(): Uint8Array {
    const bytes = new Uint8Array(4096)
    const view = new DataView(bytes.buffer)
    view.setUint16(0, 0x1b36, true)
    bytes.set(Buffer.from('UACCEL-MODEL'.padEnd(20)), 4)
    bytes.set(Buffer.from('uaccel NVMe model'.padEnd(40)), 24)
    bytes.set(Buffer.from('1.0'.padEnd(8)), 64)
    view.setUint8(77, this.#mdts)
    view.setUint32(80, 0x0001_0400, true)
    view.setUint32(92, 0x100, true)
    view.setUint16(256, this.#offersShadow ? 0x100 : 0, true) // OACS
    view.setUint8(258, 3)
    view.setUint8(512, 0x66)
    view.setUint8(513, 0x44)
    view.setUint32(516, this.#namespaces.length, true)
    view.setUint16(520, 0b1_0000_1101, true)
    view.setUint16(534, 1, true) // OCFS: source ranges of format 0
    view.setUint8(525, 1)
    return bytes
  }

  /** The active namespaces above a number (figure 251). */
  list(after: number): Uint8Array {
    const view = new DataView(new ArrayBuffer(4096))
    let at = 0
    for (let nsid = after + 1; nsid <= this.#namespaces.length && at < 4096; nsid++, at += 4)
      view.setUint32(at, nsid, true)
    return new Uint8Array(view.buffer)
  }

  /** The health log page (figure 194). */
  health(): Uint8Array {
    const bytes = new Uint8Array(512)
    const view = new DataView(bytes.buffer)
    view.setUint16(1, 310, true)
    view.setUint8(3, 100)
    view.setUint8(4, 10)
    view.setUint32(64, this.#reads, true)
    view.setUint32(80, this.#writes, true)
    view.setUint32(112, 1, true)
    return bytes
  }
}
