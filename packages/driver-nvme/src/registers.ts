import { bits, choice, flag, reg32, reg64, registers } from '@uaccel/core'

/** Bytes from the start of BAR 0 to the first doorbell (NVMe base 1.4, 3.1.24). */
export const DOORBELLS_OFFSET = 0x1000
/** Bytes of a doorbell (3.1.24); CAP.DSTRD doubles their distance so often. */
export const DOORBELL_BYTES = 4

/** Controller registers (NVMe base 1.4, section 3.1), but for the doorbells, which are memory to the driver. */
export const NvmeRegisters = registers({
  CAP: reg64(
    0x00,
    'ro',
    {
      maxQueueEntries: bits(15, 0), // counted from 0
      contiguousQueues: flag(16),
      readyTimeout: bits(31, 24), // in units of 500 ms
      doorbellStride: bits(35, 32),
      subsystemReset: flag(36),
      nvmCommandSet: flag(37),
      minPageSize: bits(51, 48), // 2^(12 + n) bytes, as is the next
      maxPageSize: bits(55, 52),
    },
    { doc: 'What the controller can do.' },
  ),
  VS: reg32(0x08, 'ro', { major: bits(31, 16), minor: bits(15, 8), tertiary: bits(7, 0) }),
  INTMS: reg32(0x0c, 'wo', {}, { doc: 'Masks vectors of INTx and MSI; not for MSI-X.' }),
  INTMC: reg32(0x10, 'wo', {}, { doc: 'Unmasks them.' }),
  CC: reg32(0x14, 'rw', {
    enable: flag(0),
    commandSet: bits(6, 4),
    pageSize: bits(10, 7),
    arbitration: bits(13, 11),
    shutdown: choice(15, 14, { none: 0, normal: 1, abrupt: 2 }),
    submissionEntryLog2: bits(19, 16),
    completionEntryLog2: bits(23, 20),
  }),
  CSTS: reg32(0x1c, 'ro', {
    ready: flag(0),
    fatal: flag(1),
    shutdown: choice(3, 2, { none: 0, underWay: 1, complete: 2 }),
    subsystemReset: flag(4),
    paused: flag(5),
  }),
  AQA: reg32(0x24, 'rw', { submissionEntries: bits(11, 0), completionEntries: bits(27, 16) }),
  ASQ: reg64(0x28, 'rw', {}, { doc: 'Address of the admin submission queue.' }),
  ACQ: reg64(0x30, 'rw', {}, { doc: 'Address of the admin completion queue.' }),
})
