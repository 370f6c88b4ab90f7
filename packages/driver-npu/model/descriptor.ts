/** Descriptor, completion and status codes of docs/devices/npu.md, sections 7, 9 and 10. */
export const DESCRIPTOR_BYTES = 64
export const COMPLETION_BYTES = 16

export const Opcode = {
  NOP: 0x00,
  COPY: 0x01,
  FILL: 0x02,
  CONV2D: 0x10,
  MATMUL: 0x11,
  POOL: 0x12,
  ADD: 0x13,
  LUT: 0x14,
  REQUANTISE: 0x15,
  TEST_HANG: 0xc0,
  TEST_FATAL: 0xc1,
  TEST_INTERNAL: 0xc2,
} as const

export const Flag = { FENCE: 0x01, UNORDERED: 0x02, IRQ: 0x04 } as const

export const Status = {
  SUCCESS: 0x00,
  INVALID_OPCODE: 0x01,
  INVALID_FIELD: 0x02,
  INVALID_PARAM_SIZE: 0x03,
  INVALID_PARAM: 0x04,
  INVALID_VERSION: 0x05,
  INVALID_TYPE: 0x06,
  LIMIT: 0x07,
  MISALIGNED: 0x08,
  WINDOW_READ: 0x10,
  WINDOW_WRITE: 0x11,
  DMA_READ: 0x12,
  DMA_WRITE: 0x13,
  ARITHMETIC: 0x20,
  ABORTED: 0x30,
  INTERNAL: 0x3f,
} as const

/** The five addresses, numbered as `DETAIL` does; address s is in words 2s and 2s + 1. */
export const Address = { A: 1, B: 2, C: 3, D: 4, P: 5 } as const

/** A descriptor as fetched. */
export interface Descriptor {
  readonly opcode: number
  readonly flags: number
  readonly cid: number
  readonly paramSize: number
  readonly length: number
  readonly pattern: number
  readonly tag: number
  /** All sixteen words. */
  readonly words: Uint32Array
}

/** @param words All sixteen, which it keeps. */
export function parseDescriptor(words: Uint32Array): Descriptor {
  return {
    opcode: words[0] & 0xff,
    flags: (words[0] >>> 8) & 0xff,
    cid: words[0] >>> 16,
    paramSize: words[1] & 0xffff,
    length: words[12],
    pattern: words[13],
    tag: words[15],
    words,
  }
}

export function addressOf(descriptor: Descriptor, slot: number): bigint {
  return (BigInt(descriptor.words[2 * slot + 1]) << 32n) | BigInt(descriptor.words[2 * slot])
}
