import type { ModelContext } from '@uaccel/model'

const PAGE = 4096n
const INVALID_PRP_OFFSET = 0x13

/** A command that cannot be done: its status. */
export class Failure extends Error {
  readonly status: number
  constructor(status: number) {
    super(`status 0x${status.toString(16)}`)
    this.status = status
  }
}

/** The pieces of memory that PRP1 and PRP2 of a command name (base specification 1.4, 4.3 and 4.4). */
export function pieces(context: ModelContext, command: DataView, sizeBytes: number): [bigint, number][] {
  const { dma } = context
  const [first, second] = [command.getBigUint64(24, true), command.getBigUint64(32, true)]
  if (first % 4n !== 0n) throw new Failure(INVALID_PRP_OFFSET)
  const found: [bigint, number][] = []
  let left = sizeBytes
  const add = (address: bigint) => {
    const size = Math.min(left, Number(PAGE - (address % PAGE)))
    found.push([address, size])
    left -= size
  }
  add(first)
  if (left === 0) {
    if (second !== 0n) context.violation('PRP2 is not 0 in a command whose data ends within the page of PRP1')
    return found
  }
  if (left <= Number(PAGE)) {
    if (second % PAGE !== 0n) throw new Failure(INVALID_PRP_OFFSET)
    add(second)
    return found
  }
  if (second % 8n !== 0n) throw new Failure(INVALID_PRP_OFFSET)
  for (let at = second; left > 0; ) {
    const entry = new Uint8Array(8)
    dma.read(at, entry)
    const address = new DataView(entry.buffer).getBigUint64(0, true)
    if (address % PAGE !== 0n) throw new Failure(INVALID_PRP_OFFSET)
    if ((at + 8n) % PAGE === 0n && left > Number(PAGE)) {
      at = address // the last entry of a page names the next list
      continue
    }
    add(address)
    at += 8n
  }
  return found
}

/** Copies the model's bytes to the memory that a command names. */
export function toHost(context: ModelContext, command: DataView, bytes: Uint8Array): void {
  let from = 0
  for (const [address, size] of pieces(context, command, bytes.length)) {
    context.dma.write(address, bytes.subarray(from, from + size))
    from += size
  }
}

/** Copies the memory that a command names. */
export function fromHost(context: ModelContext, command: DataView, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  let from = 0
  for (const [address, size] of pieces(context, command, sizeBytes)) {
    context.dma.read(address, bytes.subarray(from, from + size))
    from += size
  }
  return bytes
}
