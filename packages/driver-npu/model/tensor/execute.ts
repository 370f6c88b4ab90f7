import { Refusal } from '../blocks.js'
import { Address, addressOf, type Descriptor, Status } from '../descriptor.js'
import { type Execution, guarded, type Memory } from '../memory.js'
import { parseTensorBlock } from './block.js'
import { markDestination } from './destination.js'
import { numbers } from './numbers.js'
import type { TensorOperationOf } from './operations.js'
import { bytesOf, type Elements, type TensorParams, type View } from './params.js'

const { A, B, C, D } = Address

/** An operand: where its range begins, and how long it is. */
interface Range {
  readonly slot: number
  readonly view: View
  readonly first: bigint
  readonly sizeBytes: number
}

function rangeOf(d: Descriptor, slot: number, view: View): Range {
  const width = bytesOf[view.type]
  return {
    slot,
    view,
    first: addressOf(d, slot) - BigInt(view.before * width),
    sizeBytes: (view.before + view.after) * width,
  }
}

/** Orders 6 to 10 of 10.1 for a descriptor with a tensor block, whose bytes are `block`. Throws a `Refusal`. */
export function prepareTensor(
  d: Descriptor,
  block: Uint8Array,
  operation: TensorOperationOf,
  memory: Memory,
): Execution {
  const p = parseTensorBlock(d.opcode, block)
  const views: readonly (readonly [number, View | undefined])[] = [
    [A, p.a],
    [B, p.b],
    [C, p.c],
    [D, p.d],
  ]
  const ranges = views.flatMap(([slot, view]) => (view === undefined ? [] : [rangeOf(d, slot, view)]))
  for (const { slot, view, first, sizeBytes } of ranges) {
    if (addressOf(d, slot) % BigInt(bytesOf[view.type]) !== 0n) throw new Refusal(Status.MISALIGNED, slot)
    const write = slot === D
    if (!memory.permits(first, sizeBytes, write))
      throw new Refusal(write ? Status.WINDOW_WRITE : Status.WINDOW_READ, slot)
  }
  const [to] = ranges.slice(-1)
  const inputs = ranges.slice(0, -1)
  const indices = p.dims.reduce((product, dim) => product * dim, 1)
  const reduced = operation.reduces ? p.dims.slice(p.rank - p.inner).reduce((a, b) => a * b, 1) : 1
  const writtenBytes = (indices / reduced) * bytesOf[p.d.type]
  const overlaps = inputs.map(
    ({ first, sizeBytes }) => first < to.first + BigInt(to.sizeBytes) && to.first < first + BigInt(sizeBytes),
  )
  const [a, b, c] = [A, B, C].map((slot) => inputs.findIndex((range) => range.slot === slot))
  return {
    macs: operation.counts ? indices : 0,
    readBytes: block.length + inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    writtenBytes,
    run() {
      const read = (at: number) => (at < 0 ? undefined : input(inputs[at], overlaps[at], memory))
      const operands = { a: read(a)!, b: read(b), c: read(c) }
      const place = guarded(Status.DMA_WRITE, D, () => memory.view(to.first, to.sizeBytes, 'write'))
      if (place !== undefined) {
        operation.run(p, operands, elements(place, to.view))
        memory.count('written', writtenBytes)
        return
      }
      const result = new Uint8Array(to.sizeBytes)
      operation.run(p, operands, elements(result, to.view))
      const mark = new Uint8Array(p.d.before + p.d.after)
      markDestination(p, operands, mark, operation.reduces)
      guarded(Status.DMA_WRITE, D, () => writeMarked(p, result, mark, to.first, memory))
    },
  }
}

/** The elements themselves, or a copy where the results would overwrite them: as if all was read before (7.1). */
function input({ slot, first, sizeBytes, view }: Range, overlaps: boolean, memory: Memory): Elements {
  return guarded(Status.DMA_READ, slot, () => {
    const place = overlaps ? undefined : memory.view(first, sizeBytes, 'read')
    if (place === undefined || place.byteOffset % bytesOf[view.type] !== 0)
      return elements(memory.read(first, sizeBytes), view)
    memory.count('read', sizeBytes)
    return elements(place, view)
  })
}

function elements(bytes: Uint8Array, view: View): Elements {
  return { data: numbers(bytes, view.type), base: view.before }
}

/** Writes runs of elements that are marked. */
function writeMarked(
  p: TensorParams,
  result: Uint8Array,
  mark: Uint8Array,
  first: bigint,
  memory: Memory,
): void {
  const width = bytesOf[p.d.type]
  for (let end = 0; ; ) {
    const from = mark.indexOf(1, end)
    if (from < 0) return
    end = mark.indexOf(0, from)
    if (end < 0) end = mark.length
    memory.write(first + BigInt(from * width), result.subarray(from * width, end * width))
  }
}
