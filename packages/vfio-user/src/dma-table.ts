import type { DmaMapRequest } from '@uaccel/memory'
import { mappingFromAddress, type Window } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import type { DmaTarget } from './connection.js'

interface Mapped {
  readonly request: DmaMapRequest
  bytes: Window | undefined
}

/** What the server may ask for by DMA messages. Its addresses, lengths and directions are checked against what was mapped. */
export class DmaTable implements DmaTarget {
  readonly #mapped = new Map<bigint, Mapped>()

  add(request: DmaMapRequest): void {
    this.#mapped.set(request.iova, { request, bytes: undefined })
  }

  remove(iova: bigint): void {
    this.#mapped.delete(iova)
  }

  clear(): void {
    this.#mapped.clear()
  }

  resolve(iova: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array {
    for (const mapped of this.#mapped.values()) {
      const { request } = mapped
      const offset = iova - request.iova
      if (offset < 0n || offset + BigInt(sizeBytes) > BigInt(request.sizeBytes)) continue
      if (request.access !== 'readwrite' && request.access !== access) continue
      mapped.bytes ??= mappingFromAddress(request.address, request.sizeBytes)
      return mapped.bytes.u8.subarray(Number(offset), Number(offset) + sizeBytes)
    }
    throw accelError(
      'ERR_ACCEL_DMA_FAULT',
      `The server may not ${access} ${sizeBytes} bytes at 0x${iova.toString(16)}.`,
    )
  }
}
