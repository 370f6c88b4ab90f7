/** Words of a submission queue entry (NVMe base 1.4, 4.2), of which each has 64 bytes. */
export const COMMAND_BYTES = 64
export const COMMAND_WORDS = COMMAND_BYTES / 4
/** Bytes of a completion queue entry (4.6). */
export const COMPLETION_BYTES = 16
/** The smallest memory page (CC.MPS 0, 3.1.5), and what a PRP entry names (4.3). */
export const PAGE_BYTES = 4096

/** Opcodes of admin commands (section 5, figure 139). */
export const Admin = {
  deleteSubmissionQueue: 0x00,
  createSubmissionQueue: 0x01,
  getLogPage: 0x02,
  deleteCompletionQueue: 0x04,
  createCompletionQueue: 0x05,
  identify: 0x06,
  abort: 0x08,
  setFeatures: 0x09,
  getFeatures: 0x0a,
  asyncEventRequest: 0x0c,
  namespaceManagement: 0x0d,
  namespaceAttachment: 0x15,
  deviceSelfTest: 0x14,
  doorbellBufferConfig: 0x7c,
  sanitize: 0x84,
} as const

/** Opcodes of the NVM command set (section 6, figure 346). */
export const Nvm = {
  flush: 0x00,
  write: 0x01,
  read: 0x02,
  compare: 0x05,
  writeZeroes: 0x08,
  datasetManagement: 0x09,
  copy: 0x19, // TP 4065
} as const

/** CDW12 of read, write, compare, write zeroes and copy (6.9, 6.15, TP 4065): the data is on the medium before the command ends. */
export const FORCE_UNIT_ACCESS = 1 << 30
/** CDW11 of dataset management (6.7): the blocks are not needed any more. */
export const DEALLOCATE = 1 << 2
/** Blocks of one command: a 16-bit count from 0 (6.9). */
export const MAX_BLOCKS = 0x1_0000
/** "All namespaces" (section 6.1). */
export const ALL_NAMESPACES = 0xffff_ffff

/** What Identify answers, by CNS (5.15.1). */
export const Cns = { namespace: 0, controller: 1, activeNamespaces: 2 } as const
/** Features (5.21.1). */
export const Feature = { numberOfQueues: 0x07, asyncEvents: 0x0b } as const
/** Log pages (5.14.1). */
export const LogPage = { errors: 0x01, health: 0x02, changedNamespaces: 0x04 } as const

/** An admin command in words; what is absent is 0. */
export interface AdminCommand {
  readonly opcode: number
  readonly nsid?: number
  readonly cdw10?: number
  readonly cdw11?: number
  readonly cdw12?: number
  readonly cdw13?: number
  readonly cdw14?: number
  readonly cdw15?: number
}
