import { type DmaMapRequest, type Iova, PageMap, type PageRange, pageOf } from '@uaccel/memory'
import { abi, mappingFromAddress, type Window } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { invalid } from './checks.js'
import type { DmaTarget } from './connection.js'

interface Mapped extends PageRange {
  readonly request: DmaMapRequest
  bytes: Window | undefined
}

/** What the server may ask for by DMA messages. Its addresses, lengths and directions are checked against what was mapped. */
export class DmaTable implements DmaTarget {
  readonly #mapped = new PageMap<Mapped>()

  /** How many mappings the server has. */
  get size(): number {
    return this.#mapped.size
  }

  /** Refuses what no server could map, or some would map twice. @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE, ERR_ACCEL_BUSY */
  check({ iova, sizeBytes }: DmaMapRequest): void {
    const at = `0x${iova.toString(16)}`
    if (
      !(sizeBytes > 0) ||
      sizeBytes % abi.PAGE_SIZE_BYTES !== 0 ||
      iova % BigInt(abi.PAGE_SIZE_BYTES) !== 0n
    )
      throw invalid(
        `A DMA mapping is whole pages of ${abi.PAGE_SIZE_BYTES} bytes, not ${sizeBytes} bytes at ${at}.`,
      )
    if (iova < 0n || iova + BigInt(sizeBytes) > 1n << 64n)
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${sizeBytes} bytes at ${at} do not fit 64 bits of address.`)
    if (this.#mapped.meeting(pages(iova, sizeBytes)).length > 0)
      throw accelError('ERR_ACCEL_BUSY', `A part of ${sizeBytes} bytes at ${at} is mapped already.`)
  }

  /** Notes a mapping that was checked, and that the server has. */
  add(request: DmaMapRequest): void {
    this.#mapped.add({ ...pages(request.iova, request.sizeBytes), request, bytes: undefined })
  }

  remove(iova: Iova): void {
    const mapped = this.#mapped.find(pageOf(iova))
    if (mapped?.request.iova === iova) this.#mapped.delete(mapped)
  }

  clear(): void {
    this.#mapped.clear()
  }

  resolve(iova: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array {
    const mapped = this.#mapped.find(pageOf(iova))
    if (mapped !== undefined) {
      const { request } = mapped
      const offset = Number(iova - request.iova)
      if (
        offset + sizeBytes <= request.sizeBytes &&
        (request.access === 'readwrite' || request.access === access)
      ) {
        mapped.bytes ??= mappingFromAddress(request.address, request.sizeBytes)
        return mapped.bytes.u8.subarray(offset, offset + sizeBytes)
      }
    }
    throw accelError(
      'ERR_ACCEL_DMA_FAULT',
      `The server may not ${access} ${sizeBytes} bytes at 0x${iova.toString(16)}.`,
    )
  }
}

function pages(iova: Iova, sizeBytes: number): PageRange {
  const firstPage = pageOf(iova)
  return { firstPage, endPage: firstPage + sizeBytes / abi.PAGE_SIZE_BYTES }
}
