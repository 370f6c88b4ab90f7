import { bits, flag } from '../../fields.js'
import { type RegisterMap, reg8, reg16, reg32, regArray, registers } from '../../registers.js'
import { peek, type Structure } from './capability.js'
import { aligned, doubles, latencyNs, means, names } from './fields.js'
import { pcieTypes } from './pcie.js'

/** Registers of extended capabilities, by id (include/uapi/linux/pci_regs.h; PCI Express Base 6.0, 7.7 to 7.9). Offsets count from the capability. */

/** Bits of the uncorrectable errors (7.8.4.2), as PCI_ERR_UNC_*. */
export const uncorrectableErrors = {
  dataLinkProtocol: flag(4),
  surpriseDown: flag(5),
  poisonedTlp: flag(12),
  flowControl: flag(13),
  completionTimeout: flag(14),
  completerAbort: flag(15),
  unexpectedCompletion: flag(16),
  receiverOverflow: flag(17),
  malformedTlp: flag(18),
  ecrc: flag(19),
  unsupportedRequest: flag(20),
  acsViolation: flag(21),
  internal: flag(22),
  multicastBlocked: flag(23),
  atomicEgressBlocked: flag(24),
  prefixBlocked: flag(25),
  poisonedEgressBlocked: flag(26),
  deferrableWriteBlocked: flag(27),
  ideCheck: flag(28),
  misroutedIde: flag(29),
  pcrcCheck: flag(30),
  translationBlocked: flag(31),
} as const

/** Bits of the correctable errors (7.8.4.5), as PCI_ERR_COR_*. */
export const correctableErrors = {
  receiver: flag(0),
  badTlp: flag(6),
  badDllp: flag(7),
  replayRollover: flag(8),
  replayTimeout: flag(12),
  advisoryNonFatal: flag(13),
  internal: flag(14),
  headerLogOverflow: flag(15),
} as const

const errors = registers({
  UNCOR_STATUS: reg32(0x04, 'w1c', uncorrectableErrors),
  UNCOR_MASK: reg32(0x08, 'rw', uncorrectableErrors),
  UNCOR_SEVER: reg32(0x0c, 'rw', uncorrectableErrors),
  COR_STATUS: reg32(0x10, 'w1c', correctableErrors),
  COR_MASK: reg32(0x14, 'rw', correctableErrors),
  CAP: reg32(0x18, 'rw', {
    firstError: bits(4, 0),
    ecrcGeneration: flag(5),
    ecrcGenerate: flag(6),
    ecrcChecking: flag(7),
    ecrcCheck: flag(8),
    multipleHeaders: flag(9),
    recordMultipleHeaders: flag(10),
    prefixLogged: flag(11),
    timeoutHeaderLog: flag(12),
  }),
  HEADER_LOG: regArray(4, 4, reg32(0x1c, 'ro', {})),
})
const rootErrors = registers({
  ROOT_COMMAND: reg32(0x2c, 'rw', { correctable: flag(0), nonFatal: flag(1), fatal: flag(2) }),
  ROOT_STATUS: reg32(0x30, 'w1c', {
    correctable: flag(0),
    multipleCorrectable: flag(1),
    uncorrectable: flag(2),
    multipleUncorrectable: flag(3),
    firstFatal: flag(4),
    nonFatal: flag(5),
    fatal: flag(6),
    messageNumber: bits(31, 27),
  }),
  ROOT_SOURCE: reg32(0x34, 'ro', { correctable: bits(15, 0), uncorrectable: bits(31, 16) }),
})
function aer(_: DataView, { pcieType }: Structure): RegisterMap[] {
  const isRoot = pcieType === pcieTypes['root port'] || pcieType === pcieTypes['root complex event collector']
  return isRoot ? [errors, rootErrors] : [errors]
}

/** 7.9.1. As many resources as it says, besides the first. */
function virtualChannel(bytes: DataView): RegisterMap[] {
  const channels = 1 + (peek(bytes, 4) & 7)
  return [
    registers({
      CAP1: reg32(0x04, 'ro', {
        extendedChannels: bits(2, 0),
        lowPriorityChannels: bits(6, 4),
        referenceClock: bits(9, 8),
        arbitrationEntryBits: doubles(11, 10),
      }),
      CAP2: reg32(0x08, 'ro', {
        fixed: flag(0),
        wrr32: flag(1),
        wrr64: flag(2),
        wrr128: flag(3),
        tableOffset: means(31, 24, (raw) => 16 * raw),
      }),
      CTRL: reg16(0x0c, 'rw', { loadTable: flag(0), select: bits(3, 1) }),
      STATUS: reg16(0x0e, 'ro', { table: flag(0) }),
    }),
    registers({
      VC: regArray(channels, 0x0c, {
        CAP: reg32(0x10, 'ro', {
          fixed: flag(0),
          wrr32: flag(1),
          wrr64: flag(2),
          wrr128: flag(3),
          timeWrr128: flag(4),
          wrr256: flag(5),
          rejectSnoop: flag(15),
          maxTimeSlots: means(22, 16, (raw) => raw + 1),
          tableOffset: means(31, 24, (raw) => 16 * raw),
        }),
        CTRL: reg32(0x14, 'rw', {
          classMap: bits(7, 0),
          loadTable: flag(16),
          select: bits(19, 17),
          id: bits(26, 24),
          enable: flag(31),
        }),
        STATUS: reg16(0x1a, 'ro', { table: flag(0), negotiationPending: flag(1) }),
      }),
    }),
  ]
}

const powerBudget = registers({
  SELECT: reg8(0x04, 'rw', { index: bits(7, 0) }),
  DATA: reg32(0x08, 'ro', {
    base: bits(7, 0),
    scale: names(9, 8, '1', '0.1', '0.01', '0.001'),
    subState: bits(12, 10),
    state: names(14, 13, 'D0', 'D1', 'D2', 'D3'),
    type: bits(17, 15),
    rail: bits(20, 18),
  }),
  CAP: reg8(0x0c, 'ro', { systemAllocated: flag(0) }),
})

/** Services of ACS (7.7.12), as PCI_ACS_*. */
const services = {
  sourceValidation: flag(0),
  translationBlocking: flag(1),
  requestRedirect: flag(2),
  completionRedirect: flag(3),
  upstreamForwarding: flag(4),
  egressControl: flag(5),
  directTranslated: flag(6),
} as const

const sriov = registers({
  CAP: reg32(0x04, 'ro', {
    migration: flag(0),
    ariPreserved: flag(1),
    tag10Requester: flag(2),
    migrationMessage: bits(31, 21),
  }),
  CTRL: reg16(0x08, 'rw', {
    enable: flag(0),
    migration: flag(1),
    migrationInterrupt: flag(2),
    memory: flag(3),
    ariHierarchy: flag(4),
    tag10Requester: flag(5),
  }),
  STATUS: reg16(0x0a, 'rw', { migration: flag(0) }),
  INITIAL_VF: reg16(0x0c, 'ro', { functions: bits(15, 0) }),
  TOTAL_VF: reg16(0x0e, 'ro', { functions: bits(15, 0) }),
  NUM_VF: reg16(0x10, 'rw', { functions: bits(15, 0) }),
  FUNC_LINK: reg8(0x12, 'ro', { function: bits(7, 0) }),
  VF_OFFSET: reg16(0x14, 'ro', { routingIds: bits(15, 0) }),
  VF_STRIDE: reg16(0x16, 'ro', { routingIds: bits(15, 0) }),
  VF_DID: reg16(0x1a, 'ro', { device: bits(15, 0) }),
  SUP_PGSIZE: reg32(0x1c, 'ro', { pages4k: bits(31, 0) }),
  SYS_PGSIZE: reg32(0x20, 'rw', { pages4k: bits(31, 0) }),
  VF_BAR: regArray(
    6,
    4,
    reg32(0x24, 'rw', {
      io: flag(0),
      type: names(2, 1, '32-bit', 'reserved', '64-bit'),
      prefetchable: flag(3),
      address: aligned(31, 4),
    }),
  ),
  VFM: reg32(0x3c, 'ro', { bar: bits(2, 0), offset: aligned(31, 3) }),
})

/** 7.8.6: sizes from 1 MiB on are a bit each; how many BARs there are, the first says. */
function resizableBar(bytes: DataView): RegisterMap[] {
  const count = Math.min(6, Math.max(1, (peek(bytes, 8) >> 5) & 7))
  return [
    registers({
      BAR: regArray(count, 8, {
        CAP: reg32(0x04, 'ro', { sizes: means(31, 4, barSizes) }),
        CTRL: reg32(0x08, 'rw', { bar: bits(2, 0), bars: bits(7, 5), sizeBytes: doubles(13, 8, 2 ** 20) }),
      }),
    }),
  ]
}
const units = ['MiB', 'GiB', 'TiB']
const barSizes = (raw: number) =>
  Array.from({ length: 28 }, (_, bit) => bit)
    .filter((bit) => (raw & (1 << bit)) !== 0)
    .map((bit) => `${2 ** (bit % 10)}${units[Math.floor(bit / 10)]}`)
    .join(',') || 'none'

/** 7.8.9. The vector of ports and pending translations is not there in a function that has one alone. */
const pageRequest = registers({
  CTRL: reg16(0x04, 'rw', { enable: flag(0), reset: flag(1) }),
  STATUS: reg16(0x06, 'w1c', {
    responseFailure: flag(0),
    unexpectedGroup: flag(1),
    stopped: flag(8),
    pasidRequired: flag(15),
  }),
  MAX_REQ: reg32(0x08, 'ro', { requests: bits(31, 0) }),
  ALLOC_REQ: reg32(0x0c, 'rw', { requests: bits(31, 0) }),
})

const dpc = registers({
  CAP: reg16(0x04, 'ro', {
    messageNumber: bits(4, 0),
    rootPortExtensions: flag(5),
    poisonedTlpBlocking: flag(6),
    softwareTrigger: flag(7),
    pioLogWords: bits(11, 8),
    linkActiveError: flag(12),
  }),
  CTRL: reg16(0x06, 'rw', {
    trigger: names(1, 0, 'off', 'fatal', 'nonFatal'),
    completion: names(2, 2, 'abort', 'unsupported request'),
    interrupt: flag(3),
    correctableError: flag(4),
    poisonedTlpBlocking: flag(5),
    softwareTrigger: flag(6),
    linkActiveError: flag(7),
  }),
  STATUS: reg16(0x08, 'w1c', {
    triggered: flag(0),
    reason: names(2, 1, 'uncorrectable', 'ERR_NONFATAL', 'ERR_FATAL', 'extended'),
    interrupt: flag(3),
    busy: flag(4),
    extendedReason: names(6, 5, 'RP PIO', 'software', 'reserved', 'reserved 3'),
    pioFirstError: bits(12, 8),
  }),
  SOURCE_ID: reg16(0x0a, 'ro', { requester: bits(15, 0) }),
})

const substates = { pciPmL12: flag(0), pciPmL11: flag(1), aspmL12: flag(2), aspmL11: flag(3) } as const
const powerOnUs = (scaleLo: number, valueHi: number) =>
  means(valueHi, scaleLo, (raw) => {
    // two bits of scale, one reserved, five of value (7.8.3.2, 7.8.3.4)
    const scale = [2, 10, 100][raw & 3]
    return scale === undefined ? 'reserved' : scale * (raw >> 3)
  })
const l1Substates = registers({
  CAP: reg32(0x04, 'ro', {
    ...substates,
    supported: flag(4),
    commonModeRestoreUs: bits(15, 8),
    powerOnUs: powerOnUs(16, 23),
  }),
  CTL1: reg32(0x08, 'rw', {
    ...substates,
    commonModeRestoreUs: bits(15, 8),
    // ten bits of value, three reserved, three of scale
    ltrL12ThresholdNs: means(31, 16, (raw) => (raw & 0x3ff) * 32 ** (raw >> 13)),
  }),
  CTL2: reg32(0x0c, 'rw', { powerOnUs: powerOnUs(0, 7) }),
})

/** 7.9.3: an EUI-64, whose first bytes are in the upper word. */
const serial = means(31, 0, (raw) =>
  [24, 16, 8, 0].map((shift) => ((raw >>> shift) & 0xff).toString(16).padStart(2, '0')).join('-'),
)

const location = names(10, 9, 'none', 'capability', 'MSI-X table')

/** 7.9.6. DVSEC and VSEC: what follows the headers only their vendor knows. */
const designated = registers({
  HEADER1: reg32(0x04, 'ro', { vendor: bits(15, 0), revision: bits(19, 16), lengthBytes: bits(31, 20) }),
  HEADER2: reg16(0x08, 'ro', { id: bits(15, 0) }),
})

export const extendedRegisters: Readonly<Record<number, Structure['registers']>> = {
  1: aer,
  2: virtualChannel,
  3: registers({ LOWER: reg32(0x04, 'ro', { serial }), UPPER: reg32(0x08, 'ro', { serial }) }),
  4: powerBudget,
  9: virtualChannel,
  11: registers({
    HEADER: reg32(0x04, 'ro', { id: bits(15, 0), revision: bits(19, 16), lengthBytes: bits(31, 20) }),
  }),
  13: registers({
    CAP: reg16(0x04, 'ro', { ...services, enhanced: flag(7), egressBits: means(15, 8, (raw) => raw || 256) }),
    CTRL: reg16(0x06, 'rw', services),
  }),
  14: registers({
    CAP: reg16(0x04, 'ro', { mfvc: flag(0), acs: flag(1), nextFunction: bits(15, 8) }),
    CTRL: reg16(0x06, 'rw', { mfvc: flag(0), acs: flag(1), functionGroup: bits(6, 4) }),
  }),
  15: registers({
    CAP: reg16(0x04, 'ro', {
      queueDepth: means(4, 0, (raw) => raw || 32),
      pageAligned: flag(5),
      globalInvalidate: flag(6),
      relaxedOrdering: flag(7),
    }),
    CTRL: reg16(0x06, 'rw', { smallestUnitBytes: doubles(4, 0, 4096), enable: flag(15) }),
  }),
  16: sriov,
  19: pageRequest,
  21: resizableBar,
  22: registers({
    CAP: reg32(0x04, 'ro', {
      subStates: means(4, 0, (raw) => raw + 1),
      latencyUnit: bits(9, 8),
      powerScale: bits(13, 12),
    }),
    STATUS: reg16(0x0c, 'ro', { subState: bits(4, 0), control: flag(8) }),
    CTRL: reg16(0x0e, 'rw', { subState: bits(4, 0) }),
  }),
  23: registers({
    CAP: reg32(0x04, 'ro', {
      noTable: flag(0),
      interruptVector: flag(1),
      deviceSpecific: flag(2),
      extendedRequester: flag(8),
      location,
      tableEntries: means(26, 16, (raw) => raw + 1),
    }),
    CTRL: reg32(0x08, 'rw', {
      mode: names(2, 0, 'no table', 'interrupt vector', 'device'),
      enable: names(9, 8, 'off', 'tph', 'reserved', 'tph+extended'),
    }),
  }),
  24: registers({
    MAX_SNOOP: reg16(0x04, 'rw', { ns: latencyNs(12, 0) }),
    MAX_NOSNOOP: reg16(0x06, 'rw', { ns: latencyNs(12, 0) }),
  }),
  25: registers({
    LNKCTL3: reg32(0x04, 'rw', {
      performEqualization: flag(0),
      equalizationInterrupt: flag(1),
      lowerSkpOs: bits(15, 9),
    }),
    LANE_ERROR: reg32(0x08, 'w1c', { lanes: bits(31, 0) }),
  }),
  27: registers({
    CAP: reg16(0x04, 'ro', { execute: flag(1), privileged: flag(2), bits: bits(12, 8) }),
    CTRL: reg16(0x06, 'rw', { enable: flag(0), execute: flag(1), privileged: flag(2) }),
  }),
  29: dpc,
  30: l1Substates,
  31: registers({
    CAP: reg32(0x04, 'ro', {
      requester: flag(0),
      responder: flag(1),
      root: flag(2),
      granularityNs: bits(15, 8),
    }),
    CTRL: reg32(0x08, 'rw', { enable: flag(0), rootSelect: flag(1), granularityNs: bits(15, 8) }),
  }),
  35: designated,
  37: registers({
    CAP: reg32(0x04, 'ro', { scaledFlowControl: flag(0), exchangeEnable: flag(31) }),
    STATUS: reg32(0x08, 'ro', { remoteScaledFlowControl: flag(0), remoteValid: flag(31) }),
  }),
  38: registers({
    STATUS: reg32(0x0c, 'ro', {
      complete: flag(0),
      phase1: flag(1),
      phase2: flag(2),
      phase3: flag(3),
      request: flag(4),
    }),
    LOCAL_PARITY: reg32(0x10, 'w1c', { lanes: bits(31, 0) }),
    FIRST_RETIMER_PARITY: reg32(0x14, 'w1c', { lanes: bits(31, 0) }),
    SECOND_RETIMER_PARITY: reg32(0x18, 'w1c', { lanes: bits(31, 0) }),
  }),
  39: registers({
    CAP: reg16(0x04, 'ro', { software: flag(0) }),
    STATUS: reg16(0x06, 'ro', { ready: flag(0), softwareReady: flag(1) }),
  }),
  42: registers({
    CAP: reg32(0x04, 'ro', { bypass: flag(0), noEqualization: flag(1) }),
    CTRL: reg32(0x08, 'rw', { bypassDisable: flag(0), noEqualizationDisable: flag(1) }),
    STATUS: reg32(0x0c, 'ro', {
      complete: flag(0),
      phase1: flag(1),
      phase2: flag(2),
      phase3: flag(3),
      request: flag(4),
    }),
  }),
  46: registers({
    CAP: reg32(0x04, 'ro', { interrupt: flag(0), messageNumber: bits(11, 1) }),
    CTRL: reg32(0x08, 'rw', { abort: flag(0), interrupt: flag(1), go: flag(31) }),
    STATUS: reg32(0x0c, 'ro', { busy: flag(0), interrupt: flag(1), error: flag(2), ready: flag(31) }),
  }),
}
