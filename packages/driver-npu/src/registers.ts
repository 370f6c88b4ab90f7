import { bits, choice, flag, reg32, regArray, registers } from '@uaccel/core'

/** BARs: docs/devices/npu.md, section 2. */
export const BAR = { registers: 0, doorbells: 1, card: 2 } as const
/** BAR 1 has such a page for each queue (5.3). */
export const DOORBELL_PAGE_BYTES = 4096

/** BAR 0 of the NPU: docs/devices/npu.md, section 4. */
export const NpuRegisters = registers({
  ID: reg32(0x000, 'ro'),
  VERSION: reg32(0x004, 'ro', { major: bits(31, 16), minor: bits(15, 8), patch: bits(7, 0) }),
  CAP0: reg32(0x008, 'ro', { queues: bits(7, 0), windows: bits(15, 8), readyTimeoutMs: bits(31, 16) }),
  CAP1: reg32(0x00c, 'ro', {
    minEntriesLog2: bits(3, 0),
    maxEntriesLog2: bits(7, 4),
    maxParams16: bits(15, 8),
    maxElementsLog2: bits(23, 16),
    maxMacsLog2: bits(31, 24),
  }),
  OPCODES_LO: reg32(0x010, 'ro'),
  OPCODES_HI: reg32(0x014, 'ro'),
  DTYPES: reg32(0x018, 'ro'),
  MAX_DIM: reg32(0x01c, 'ro'),
  LMEM_BASE_LO: reg32(0x020, 'ro'),
  LMEM_BASE_HI: reg32(0x024, 'ro'),
  LMEM_SIZE_LO: reg32(0x028, 'ro'),
  LMEM_SIZE_HI: reg32(0x02c, 'ro'),
  CLOCK_KHZ: reg32(0x030, 'ro'),
  CC: reg32(0x040, 'rw', { enable: flag(0) }),
  CSTS: reg32(0x044, 'ro', { ready: flag(0), fatal: flag(1) }),
  FATAL: reg32(0x048, 'ro', {
    cause: choice(7, 0, { none: 0, sqRead: 1, cqWrite: 2, statusWrite: 3, machineCheck: 4 }),
    queue: bits(15, 8),
  }),
  HEARTBEAT: reg32(0x04c, 'ro'),
  INTX_STATUS: reg32(0x050, 'ro'),
  INTX_ACK: reg32(0x054, 'wo'),
  INTX_ENABLE: reg32(0x058, 'rw'),
  EVENTS: reg32(0x060, 'w1c', { fatal: flag(0), queue: flag(1) }),
  EVENTS_ENABLE: reg32(0x064, 'rw', { fatal: flag(0), queue: flag(1) }),
  QUEUE_EVENTS: reg32(0x068, 'rc'),
  PERF_CTRL: reg32(0x080, 'rw', { freeze: flag(0) }),
  PERF_CLEAR: reg32(0x084, 'wo'),
  PERF: regArray(6, 8, { LO: reg32(0x090, 'ro'), HI: reg32(0x094, 'ro') }),
  QUEUE: regArray(16, 0x200, {
    SQ_BASE_LO: reg32(0x1000, 'rw'),
    SQ_BASE_HI: reg32(0x1004, 'rw'),
    CQ_BASE_LO: reg32(0x1008, 'rw'),
    CQ_BASE_HI: reg32(0x100c, 'rw'),
    STATUS_BASE_LO: reg32(0x1010, 'rw'),
    STATUS_BASE_HI: reg32(0x1014, 'rw'),
    QSIZE: reg32(0x1018, 'rw', { entriesLog2: bits(3, 0) }),
    QVECTOR: reg32(0x101c, 'rw', { vector: bits(4, 0), enable: flag(8) }),
    QCTL: reg32(0x1020, 'rw', { enable: flag(0) }),
    QSTS: reg32(0x1024, 'ro', {
      state: choice(2, 0, { disabled: 0, starting: 1, running: 2, stopping: 3, error: 4 }),
      cause: choice(15, 8, { none: 0, badSize: 1, badBase: 2, badVector: 3, overrun: 4 }),
    }),
    WAKE: reg32(0x1028, 'wo'),
    SQ_HEAD: reg32(0x102c, 'ro'),
    CQ_TAIL: reg32(0x1030, 'ro'),
    WINDOW: regArray(8, 0x20, {
      BASE_LO: reg32(0x1080, 'rw'),
      BASE_HI: reg32(0x1084, 'rw'),
      LIMIT_LO: reg32(0x1088, 'rw'),
      LIMIT_HI: reg32(0x108c, 'rw'),
      PERM: reg32(0x1090, 'rw', { read: flag(0), write: flag(1) }),
    }),
  }),
})
