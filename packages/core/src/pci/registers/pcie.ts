import { bits, choice, flag } from '../../fields.js'
import { reg16, reg32, registers } from '../../registers.js'
import {
  acceptableL0s,
  acceptableL1,
  doubles,
  exitL0s,
  exitL1,
  linkSpeed,
  linkSpeeds,
  means,
  names,
  powerLimitWatts,
} from './fields.js'

/**
 * The PCI Express capability (PCI_EXP_* of include/uapi/linux/pci_regs.h; PCI Express Base 6.0, 7.5.3). Which of its parts a function
 * has follows from its type and the version.
 */

/** PCIe device/port types (PCI_EXP_TYPE_*). */
export const pcieTypes = {
  endpoint: 0,
  'legacy endpoint': 1,
  'root port': 4,
  'upstream port': 5,
  'downstream port': 6,
  'PCIe to PCI bridge': 7,
  'PCI to PCIe bridge': 8,
  'root complex endpoint': 9,
  'root complex event collector': 10,
} as const

export const express = registers({
  FLAGS: reg16(0x02, 'ro', {
    version: bits(3, 0),
    type: choice(7, 4, pcieTypes),
    slot: flag(8),
    messageNumber: bits(13, 9),
  }),
  DEVCAP: reg32(0x04, 'ro', {
    maxPayloadBytes: doubles(2, 0, 128),
    phantomFunctionBits: bits(4, 3),
    extendedTag: flag(5),
    acceptableL0s: acceptableL0s(8, 6),
    acceptableL1: acceptableL1(11, 9),
    attentionButton: flag(12),
    attentionIndicator: flag(13),
    powerIndicator: flag(14),
    roleBasedErrors: flag(15),
    slotPowerLimitWatts: powerLimitWatts(27, 18),
    functionLevelReset: flag(28),
    teeIo: flag(30),
  }),
  DEVCTL: reg16(0x08, 'rw', {
    correctableErrors: flag(0),
    nonFatalErrors: flag(1),
    fatalErrors: flag(2),
    unsupportedRequests: flag(3),
    relaxedOrdering: flag(4),
    maxPayloadBytes: doubles(7, 5, 128),
    extendedTag: flag(8),
    phantomFunctions: flag(9),
    auxPower: flag(10),
    noSnoop: flag(11),
    maxReadRequestBytes: doubles(14, 12, 128),
    bridgeRetryOrReset: flag(15),
  }),
  DEVSTA: reg16(0x0a, 'w1c', {
    correctableError: flag(0),
    nonFatalError: flag(1),
    fatalError: flag(2),
    unsupportedRequest: flag(3),
    auxPower: flag(4),
    transactionsPending: flag(5),
  }),
})

const aspm = names(1, 0, 'off', 'L0s', 'L1', 'L0s+L1')

export const link = registers({
  LNKCAP: reg32(0x0c, 'ro', {
    speed: linkSpeed(3, 0),
    width: bits(9, 4),
    aspm: names(11, 10, 'none', 'L0s', 'L1', 'L0s+L1'),
    exitL0s: exitL0s(14, 12),
    exitL1: exitL1(17, 15),
    clockPm: flag(18),
    surpriseDown: flag(19),
    linkActiveReporting: flag(20),
    bandwidthNotification: flag(21),
    aspmOptional: flag(22),
    port: bits(31, 24),
  }),
  LNKCTL: reg16(0x10, 'rw', {
    aspm,
    readCompletionBytes: doubles(3, 3, 64),
    disable: flag(4),
    retrain: flag(5),
    commonClock: flag(6),
    extendedSync: flag(7),
    clockPm: flag(8),
    autonomousWidthDisable: flag(9),
    bandwidthInterrupt: flag(10),
    autonomousBandwidthInterrupt: flag(11),
    flitModeDisable: flag(13),
  }),
  LNKSTA: reg16(0x12, 'ro', {
    speed: linkSpeed(3, 0),
    width: bits(9, 4),
    trainingError: flag(10),
    training: flag(11),
    slotClock: flag(12),
    linkActive: flag(13),
    bandwidthManagement: flag(14),
    autonomousBandwidth: flag(15),
  }),
})

const indicator = (hi: number, lo: number) => names(hi, lo, 'reserved', 'on', 'blink', 'off')

export const slot = registers({
  SLTCAP: reg32(0x14, 'ro', {
    attentionButton: flag(0),
    powerController: flag(1),
    mrlSensor: flag(2),
    attentionIndicator: flag(3),
    powerIndicator: flag(4),
    surprise: flag(5),
    hotPlug: flag(6),
    powerLimitWatts: powerLimitWatts(16, 7),
    interlock: flag(17),
    noCommandCompleted: flag(18),
    slot: bits(31, 19),
  }),
  SLTCTL: reg16(0x18, 'rw', {
    attentionButton: flag(0),
    powerFault: flag(1),
    mrlSensor: flag(2),
    presenceDetect: flag(3),
    commandCompleted: flag(4),
    hotPlugInterrupt: flag(5),
    attentionIndicator: indicator(7, 6),
    powerIndicator: indicator(9, 8),
    powerOff: flag(10),
    interlock: flag(11),
    linkState: flag(12),
    autoPowerLimitDisable: flag(13),
    inBandPresenceDisable: flag(14),
  }),
  SLTSTA: reg16(0x1a, 'w1c', {
    attentionButton: flag(0),
    powerFault: flag(1),
    mrlChanged: flag(2),
    presenceChanged: flag(3),
    commandCompleted: flag(4),
    mrlOpen: flag(5),
    present: flag(6),
    interlock: flag(7),
    linkStateChanged: flag(8),
  }),
})

export const root = registers({
  RTCTL: reg16(0x1c, 'rw', {
    correctableErrors: flag(0),
    nonFatalErrors: flag(1),
    fatalErrors: flag(2),
    pmeInterrupt: flag(3),
    retryVisible: flag(4),
  }),
  RTCAP: reg16(0x1e, 'ro', { retryVisible: flag(0) }),
  RTSTA: reg32(0x20, 'w1c', { pmeRequester: bits(15, 0), pmeStatus: flag(16), pmePending: flag(17) }),
})

/** Ranges of completion timeouts (7.5.3.15, 7.5.3.16). */
const timeouts = choice(3, 0, {
  '50us-50ms': 0,
  '50us-100us': 1,
  '1ms-10ms': 2,
  '16ms-55ms': 5,
  '65ms-210ms': 6,
  '260ms-900ms': 9,
  '1s-3.5s': 10,
  '4s-13s': 13,
  '17s-64s': 14,
})

export const express2 = registers({
  DEVCAP2: reg32(0x24, 'ro', {
    timeoutRanges: means(
      3,
      0,
      (raw) => [...'ABCD'].filter((_, bit) => (raw & (1 << bit)) !== 0).join('') || 'none',
    ),
    timeoutDisable: flag(4),
    ariForwarding: flag(5),
    atomicRouting: flag(6),
    atomic32: flag(7),
    atomic64: flag(8),
    cas128: flag(9),
    noRelaxedPassing: flag(10),
    ltr: flag(11),
    tphCompleter: names(13, 12, 'none', 'tph', 'reserved', 'tph+extended'),
    lnSystem: names(15, 14, 'none', '64B', '128B'),
    tag10Completer: flag(16),
    tag10Requester: flag(17),
    obff: names(19, 18, 'none', 'message', 'wake', 'message+wake'),
    extendedFormat: flag(20),
    endToEndPrefix: flag(21),
    maxEndToEndPrefixes: means(23, 22, (raw) => raw || 4),
    emergencyPowerReduction: names(25, 24, 'none', 'device', 'form factor'),
    emergencyPowerInitialization: flag(26),
    frs: flag(31),
  }),
  DEVCTL2: reg16(0x28, 'rw', {
    timeout: timeouts,
    timeoutDisable: flag(4),
    ariForwarding: flag(5),
    atomicRequester: flag(6),
    atomicEgressBlock: flag(7),
    idOrderedRequests: flag(8),
    idOrderedCompletions: flag(9),
    ltr: flag(10),
    emergencyPowerRequest: flag(11),
    tag10Requester: flag(12),
    obff: names(14, 13, 'off', 'message A', 'message B', 'wake'),
    endToEndPrefixBlock: flag(15),
  }),
})

export const link2 = registers({
  LNKCAP2: reg32(0x2c, 'ro', {
    speeds: linkSpeeds(7, 1),
    crosslink: flag(8),
    retimerPresence: flag(23),
    twoRetimersPresence: flag(24),
    drs: flag(31),
  }),
  LNKCTL2: reg16(0x30, 'rw', {
    targetSpeed: linkSpeed(3, 0),
    enterCompliance: flag(4),
    autonomousSpeedDisable: flag(5),
    selectableDeemphasis: flag(6),
    transmitMargin: bits(9, 7),
    enterModifiedCompliance: flag(10),
    complianceSos: flag(11),
    compliancePreset: bits(15, 12),
  }),
  LNKSTA2: reg16(0x32, 'ro', {
    deemphasis: names(0, 0, '-6dB', '-3.5dB'),
    equalizationComplete: flag(1),
    phase1: flag(2),
    phase2: flag(3),
    phase3: flag(4),
    equalizationRequest: flag(5),
    retimer: flag(6),
    twoRetimers: flag(7),
    crosslink: names(9, 8, 'unsupported', 'upstream', 'downstream', 'incomplete'),
    flitMode: flag(10),
    downstream: bits(14, 12),
    drs: flag(15),
  }),
})

export const slot2 = registers({ SLTCAP2: reg32(0x34, 'ro', { inBandPresenceDisable: flag(0) }) })
