import { bits, flag } from '../../fields.js'
import { reg8, reg16, reg32, registers } from '../../registers.js'
import { aligned, means, names } from './fields.js'

/** Registers of the header (include/uapi/linux/pci_regs.h; PCI Local Bus 3.0, 6.1 and 6.2). */
const status = {
  immediateReadiness: flag(0),
  intxPending: flag(3),
  capabilities: flag(4),
  is66MHz: flag(5),
  userDefinable: flag(6),
  fastBackToBack: flag(7),
  masterDataParityError: flag(8),
  devsel: names(10, 9, 'fast', 'medium', 'slow'),
  signaledTargetAbort: flag(11),
  receivedTargetAbort: flag(12),
  receivedMasterAbort: flag(13),
  signaledSystemError: flag(14),
  parityError: flag(15),
} as const

const common = {
  COMMAND: reg16(0x04, 'rw', {
    io: flag(0),
    memory: flag(1),
    busMaster: flag(2),
    specialCycles: flag(3),
    memoryWriteInvalidate: flag(4),
    vgaSnoop: flag(5),
    parityError: flag(6),
    stepping: flag(7),
    systemError: flag(8),
    fastBackToBack: flag(9),
    intxDisable: flag(10),
  }),
  STATUS: reg16(0x06, 'w1c', status),
  CACHE_LINE: reg8(0x0c, 'rw', { words: bits(7, 0) }),
  LATENCY: reg8(0x0d, 'rw', { clocks: bits(7, 0) }),
  HEADER_TYPE: reg8(0x0e, 'ro', { layout: bits(6, 0), multiFunction: flag(7) }),
  BIST: reg8(0x0f, 'rw', { code: bits(3, 0), start: flag(6), capable: flag(7) }),
  INTERRUPT_LINE: reg8(0x3c, 'rw', { line: bits(7, 0) }),
  INTERRUPT_PIN: reg8(0x3d, 'ro', { pin: names(7, 0, 'none', 'A', 'B', 'C', 'D') }),
} as const

/** Windows of a bridge: I/O in steps of 4 KiB, memory of 1 MiB. */
const ioAddress = means(7, 4, (raw) => raw * 0x1000)
const memoryAddress = means(15, 4, (raw) => raw * 0x10_0000)
const rom = (offset: number) => reg32(offset, 'rw', { enable: flag(0), address: aligned(31, 11) })

/** Of a function that is no bridge. */
export const endpointHeader = registers({
  ...common,
  CARDBUS_CIS: reg32(0x28, 'ro', { pointer: bits(31, 0) }),
  ROM: rom(0x30),
  MIN_GNT: reg8(0x3e, 'ro', { quarterUs: bits(7, 0) }),
  MAX_LAT: reg8(0x3f, 'ro', { quarterUs: bits(7, 0) }),
})

/** Of a PCI-to-PCI bridge (PCI-to-PCI Bridge 1.2, 3.2). */
export const bridgeHeader = registers({
  ...common,
  PRIMARY_BUS: reg8(0x18, 'rw', { bus: bits(7, 0) }),
  SECONDARY_BUS: reg8(0x19, 'rw', { bus: bits(7, 0) }),
  SUBORDINATE_BUS: reg8(0x1a, 'rw', { bus: bits(7, 0) }),
  SEC_LATENCY_TIMER: reg8(0x1b, 'rw', { clocks: bits(7, 0) }),
  IO_BASE: reg8(0x1c, 'rw', { is32Bit: flag(0), address: ioAddress }),
  IO_LIMIT: reg8(0x1d, 'rw', { is32Bit: flag(0), address: ioAddress }),
  SEC_STATUS: reg16(0x1e, 'w1c', {
    is66MHz: status.is66MHz,
    fastBackToBack: status.fastBackToBack,
    masterDataParityError: status.masterDataParityError,
    devsel: status.devsel,
    signaledTargetAbort: status.signaledTargetAbort,
    receivedTargetAbort: status.receivedTargetAbort,
    receivedMasterAbort: status.receivedMasterAbort,
    receivedSystemError: flag(14),
    parityError: status.parityError,
  }),
  MEMORY_BASE: reg16(0x20, 'rw', { address: memoryAddress }),
  MEMORY_LIMIT: reg16(0x22, 'rw', { address: memoryAddress }),
  PREF_MEMORY_BASE: reg16(0x24, 'rw', { is64Bit: flag(0), address: memoryAddress }),
  PREF_MEMORY_LIMIT: reg16(0x26, 'rw', { is64Bit: flag(0), address: memoryAddress }),
  PREF_BASE_UPPER32: reg32(0x28, 'rw', { address: bits(31, 0) }),
  PREF_LIMIT_UPPER32: reg32(0x2c, 'rw', { address: bits(31, 0) }),
  IO_BASE_UPPER16: reg16(0x30, 'rw', { address: bits(15, 0) }),
  IO_LIMIT_UPPER16: reg16(0x32, 'rw', { address: bits(15, 0) }),
  ROM: rom(0x38),
  BRIDGE_CONTROL: reg16(0x3e, 'rw', {
    parity: flag(0),
    systemError: flag(1),
    isa: flag(2),
    vga: flag(3),
    vga16: flag(4),
    masterAbort: flag(5),
    busReset: flag(6),
    fastBackToBack: flag(7),
    primaryDiscardTimer: flag(8),
    secondaryDiscardTimer: flag(9),
    discardTimerStatus: flag(10),
    discardTimerSystemError: flag(11),
  }),
})
