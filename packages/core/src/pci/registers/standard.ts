import { bits, choice, flag } from '../../fields.js'
import { type RegisterBlock, type RegisterMap, reg8, reg16, reg32, registers } from '../../registers.js'
import { peek, type Structure } from './capability.js'
import { aligned, doubles, means, names } from './fields.js'
import { express, express2, link, link2, pcieTypes, root, slot, slot2 } from './pcie.js'

/** Registers of capabilities in the first 256 bytes, by id (include/uapi/linux/pci_regs.h). Offsets count from the capability. */

const powerManagement = registers({
  // PCI Bus Power Management Interface 1.2, 3.2
  PMC: reg16(0x02, 'ro', {
    version: bits(2, 0),
    pmeClock: flag(3),
    immediateReadiness: flag(4),
    deviceInitialization: flag(5),
    auxMilliamperes: means(8, 6, (raw) => [0, 55, 100, 160, 220, 270, 320, 375][raw]!),
    d1: flag(9),
    d2: flag(10),
    pmeD0: flag(11),
    pmeD1: flag(12),
    pmeD2: flag(13),
    pmeD3hot: flag(14),
    pmeD3cold: flag(15),
  }),
  PMCSR: reg16(0x04, 'rw', {
    state: names(1, 0, 'D0', 'D1', 'D2', 'D3hot'),
    noSoftReset: flag(3),
    pmeEnable: flag(8),
    dataSelect: bits(12, 9),
    dataScale: bits(14, 13),
    pmeStatus: flag(15),
  }),
})

/** PCI Local Bus 3.0, 6.8.1: where data, mask and pending bits are depends on the width of the address. */
function msi(bytes: DataView): RegisterMap[] {
  const control = peek(bytes, 2)
  const after = (control & 0x80) === 0 ? 0x08 : 0x0c
  return [
    registers({
      CONTROL: reg16(0x02, 'rw', {
        enable: flag(0),
        vectors: doubles(3, 1),
        enabledVectors: doubles(6, 4),
        is64Bit: flag(7),
        maskable: flag(8),
      }),
      ADDRESS_LO: reg32(0x04, 'rw', { address: aligned(31, 2) }),
      ...((control & 0x80) === 0 ? {} : { ADDRESS_HI: reg32(0x08, 'rw', { address: bits(31, 0) }) }),
      DATA: reg16(after, 'rw', { data: bits(15, 0) }),
      ...((control & 0x100) === 0
        ? {}
        : {
            MASK: reg32(after + 4, 'rw', { vectors: bits(31, 0) }),
            PENDING: reg32(after + 8, 'ro', { vectors: bits(31, 0) }),
          }),
    }),
  ]
}

/** PCI Local Bus 3.0, 6.8.2. */
const msix = registers({
  CONTROL: reg16(0x02, 'rw', {
    vectors: means(10, 0, (raw) => raw + 1),
    functionMask: flag(14),
    enable: flag(15),
  }),
  TABLE: reg32(0x04, 'ro', { bar: bits(2, 0), offset: aligned(31, 3) }),
  PBA: reg32(0x08, 'ro', { bar: bits(2, 0), offset: aligned(31, 3) }),
})

/** Parts of the PCI Express capability by type and version, as 7.5.3 of PCI Express Base 6.0 has them. */
function pcie(bytes: DataView): RegisterMap[] {
  const flags = peek(bytes, 2)
  const version = flags & 15
  const type = (flags >> 4) & 15
  const is = (...kinds: (keyof typeof pcieTypes)[]) => kinds.some((kind) => pcieTypes[kind] === type)
  const hasLink = !is('root complex endpoint', 'root complex event collector')
  const hasSlot = is('root port', 'downstream port') && (flags & 0x100) !== 0
  const hasRoot = is('root port', 'root complex event collector')
  return [
    express,
    ...(hasLink ? [link] : []),
    ...(hasSlot ? [slot] : []),
    ...(hasRoot ? [root] : []),
    ...(version < 2 ? [] : [express2, ...(hasLink ? [link2] : []), ...(hasSlot ? [slot2] : [])]),
  ]
}

/** Conventional PCI Advanced Capabilities (ECN of 2006). */
const advancedFeatures = registers({
  CAP: reg8(0x03, 'ro', { transactionsPending: flag(0), functionLevelReset: flag(1) }),
  CTRL: reg8(0x04, 'rw', { functionLevelReset: flag(0) }),
  STATUS: reg8(0x05, 'ro', { transactionsPending: flag(0) }),
})

/** Resources that Enhanced Allocation describes (PCI Express Base 6.0, 7.8.5.3). */
const allocated = choice(7, 4, {
  'BAR 0': 0,
  'BAR 1': 1,
  'BAR 2': 2,
  'BAR 3': 3,
  'BAR 4': 4,
  'BAR 5': 5,
  'behind bridge': 6,
  none: 7,
  ROM: 8,
  'VF BAR 0': 9,
  'VF BAR 1': 10,
  'VF BAR 2': 11,
  'VF BAR 3': 12,
  'VF BAR 4': 13,
  'VF BAR 5': 14,
  reserved: 15,
})
const property = (hi: number, lo: number) =>
  choice(hi, lo, {
    memory: 0,
    prefetchable: 1,
    io: 2,
    'VF prefetchable': 3,
    'VF memory': 4,
    'bridge memory': 5,
    'bridge prefetchable': 6,
    'bridge io': 7,
    'reserved memory': 0xfd,
    'reserved io': 0xfe,
    unavailable: 0xff,
  })

/** Entries follow each other, of as many words as they say. */
function enhancedAllocation(bytes: DataView, { layout }: Structure): RegisterMap[] {
  const entries = peek(bytes, 2) & 0x3f
  const block: Record<string, RegisterBlock[string]> = {
    NUM_ENTRIES: reg8(0x02, 'ro', { entries: bits(5, 0) }),
    ...(layout === 1
      ? { BUSES: reg16(0x04, 'ro', { secondary: bits(7, 0), subordinate: bits(15, 8) }) }
      : {}),
  }
  let at = layout === 1 ? 8 : 4
  for (let i = 0; i < entries && at + 4 <= bytes.byteLength; i++) {
    const words = bytes.getUint32(at, true) & 7
    const place = { is64Bit: flag(1), address: aligned(31, 2) }
    block[`ENTRY[${i}]`] = reg32(at, 'ro', {
      words: bits(2, 0),
      resource: allocated,
      primary: property(15, 8),
      secondary: property(23, 16),
      writable: flag(30),
      enable: flag(31),
    })
    if (words >= 1) block[`BASE[${i}]`] = reg32(at + 4, 'ro', place)
    if (words >= 2) block[`MAX_OFFSET[${i}]`] = reg32(at + 8, 'ro', place)
    let high = at + 12
    const is64Bit = (offset: number) => (peek(bytes, offset) & 2) !== 0
    if (words >= 3 && is64Bit(at + 4)) {
      block[`BASE_HI[${i}]`] = reg32(high, 'ro', { address: bits(31, 0) })
      high += 4
    }
    if (high < at + 4 * (words + 1) && words >= 3 && is64Bit(at + 8))
      block[`MAX_OFFSET_HI[${i}]`] = reg32(high, 'ro', { address: bits(31, 0) })
    at += 4 * (words + 1)
  }
  return [registers(block)]
}

/** HyperTransport capabilities are several under one id; of those only MSI mapping concerns a function's driver. */
function hyperTransport(bytes: DataView): RegisterMap[] {
  return peek(bytes, 2) >> 11 === 0x15
    ? [registers({ FLAGS: reg16(0x02, 'rw', { enable: flag(0), fixed: flag(1), type: bits(15, 11) }) })]
    : []
}

export const standardRegisters: Readonly<Record<number, Structure['registers']>> = {
  1: powerManagement,
  3: registers({
    ADDRESS: reg16(0x02, 'rw', { address: bits(14, 0), done: flag(15) }),
    DATA: reg32(0x04, 'rw'),
  }),
  4: registers({ SLOT: reg8(0x02, 'ro', { slots: bits(4, 0), first: flag(5) }), CHASSIS: reg8(0x03, 'rw') }),
  5: msi,
  8: hyperTransport,
  9: registers({ LENGTH: reg8(0x02, 'ro', { bytes: bits(7, 0) }) }),
  10: registers({ DEBUG: reg16(0x02, 'ro', { offset: bits(12, 0), bar: means(15, 13, (raw) => raw - 1) }) }),
  13: registers({ SUBSYSTEM: reg32(0x04, 'ro', { vendor: bits(15, 0), device: bits(31, 16) }) }),
  16: pcie,
  17: msix,
  18: registers({
    REVISION: reg8(0x02, 'ro', { minor: bits(3, 0), major: bits(7, 4) }),
    PLACE: reg32(0x04, 'ro', {
      bar: means(3, 0, (raw) => (raw === 15 ? 'inline' : raw - 4)),
      offset: aligned(23, 4),
    }),
  }),
  19: advancedFeatures,
  20: enhancedAllocation,
}
