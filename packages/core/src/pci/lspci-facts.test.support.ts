import type { ConfigDescription } from './describe.js'

/** Something that both `lspci -vvv` and we say of a device. */
export interface Fact {
  readonly what: string
  readonly theirs: unknown
  readonly ours: unknown
}

/** Flags of a labelled line of lspci: the register that they are of, and its field for each of theirs. */
interface Label {
  /** Capability id; extended ones negative; 0 the header. */
  readonly id: number
  readonly register: string
  readonly flags: Readonly<Record<string, string>>
}

const uncorrectable = {
  DLP: 'dataLinkProtocol',
  SDES: 'surpriseDown',
  TLP: 'poisonedTlp',
  FCP: 'flowControl',
  CmpltTO: 'completionTimeout',
  CmpltAbrt: 'completerAbort',
  UnxCmplt: 'unexpectedCompletion',
  RxOF: 'receiverOverflow',
  MalfTLP: 'malformedTlp',
  ECRC: 'ecrc',
  UnsupReq: 'unsupportedRequest',
  ACSViol: 'acsViolation',
  UncorrIntErr: 'internal',
  BlockedTLP: 'multicastBlocked',
  AtomicOpBlocked: 'atomicEgressBlocked',
  TLPBlockedErr: 'prefixBlocked',
  PoisonTLPBlocked: 'poisonedEgressBlocked',
  DMWrReqBlocked: 'deferrableWriteBlocked',
  IDECheck: 'ideCheck',
  MisIDETLP: 'misroutedIde',
  PCRC_CHECK: 'pcrcCheck',
  TLPXlatBlocked: 'translationBlocked',
}
const correctable = {
  RxErr: 'receiver',
  BadTLP: 'badTlp',
  BadDLLP: 'badDllp',
  Rollover: 'replayRollover',
  Timeout: 'replayTimeout',
  AdvNonFatalErr: 'advisoryNonFatal',
  CorrIntErr: 'internal',
  HeaderOF: 'headerLogOverflow',
}
const services = {
  SrcValid: 'sourceValidation',
  TransBlk: 'translationBlocking',
  ReqRedir: 'requestRedirect',
  CmpltRedir: 'completionRedirect',
  UpstreamFwd: 'upstreamForwarding',
  EgressCtrl: 'egressControl',
  DirectTrans: 'directTranslated',
}
const substates = {
  'PCI-PM_L1.2': 'pciPmL12',
  'PCI-PM_L1.1': 'pciPmL11',
  'ASPM_L1.2': 'aspmL12',
  'ASPM_L1.1': 'aspmL11',
}
const reports = {
  CorrErr: 'correctableErrors',
  NonFatalErr: 'nonFatalErrors',
  FatalErr: 'fatalErrors',
  UnsupReq: 'unsupportedRequests',
}
const label = (id: number, register: string, flags: Label['flags']): Label => ({ id, register, flags })

/** By capability, since some labels stand in several. */
const labels: Readonly<Record<string, Label>> = {
  'header/Control': label(0, 'COMMAND', {
    'I/O': 'io',
    Mem: 'memory',
    BusMaster: 'busMaster',
    SpecCycle: 'specialCycles',
    MemWINV: 'memoryWriteInvalidate',
    VGASnoop: 'vgaSnoop',
    ParErr: 'parityError',
    Stepping: 'stepping',
    SERR: 'systemError',
    FastB2B: 'fastBackToBack',
    DisINTx: 'intxDisable',
  }),
  'header/Status': label(0, 'STATUS', {
    Cap: 'capabilities',
    '66MHz': 'is66MHz',
    UDF: 'userDefinable',
    FastB2B: 'fastBackToBack',
    ParErr: 'masterDataParityError',
    '>TAbort': 'signaledTargetAbort',
    '<TAbort': 'receivedTargetAbort',
    '<MAbort': 'receivedMasterAbort',
    '>SERR': 'signaledSystemError',
    '<PERR': 'parityError',
    INTx: 'intxPending',
  }),
  'Power Management/Flags': label(1, 'PMC', {
    PMEClk: 'pmeClock',
    DSI: 'deviceInitialization',
    D1: 'd1',
    D2: 'd2',
    'PME-D0': 'pmeD0',
    'PME-D1': 'pmeD1',
    'PME-D2': 'pmeD2',
    'PME-D3hot': 'pmeD3hot',
    'PME-D3cold': 'pmeD3cold',
  }),
  'Power Management/Status': label(1, 'PMCSR', {
    NoSoftRst: 'noSoftReset',
    'PME-Enable': 'pmeEnable',
    PME: 'pmeStatus',
  }),
  'MSI/MSI': label(5, 'CONTROL', { Enable: 'enable', Maskable: 'maskable', '64bit': 'is64Bit' }),
  'MSI-X/MSI-X': label(0x11, 'CONTROL', { Enable: 'enable', Masked: 'functionMask' }),
  'PCI Advanced Features/AFCap': label(0x13, 'CAP', { TP: 'transactionsPending', FLR: 'functionLevelReset' }),
  'PCI Advanced Features/AFCtrl': label(0x13, 'CTRL', { FLR: 'functionLevelReset' }),
  'PCI Advanced Features/AFStatus': label(0x13, 'STATUS', { TP: 'transactionsPending' }),
  'Express/DevCap': label(0x10, 'DEVCAP', {
    ExtTag: 'extendedTag',
    AttnBtn: 'attentionButton',
    AttnInd: 'attentionIndicator',
    PwrInd: 'powerIndicator',
    RBE: 'roleBasedErrors',
    FLReset: 'functionLevelReset',
    'TEE-IO': 'teeIo',
  }),
  'Express/DevCtl': label(0x10, 'DEVCTL', {
    ...reports,
    RlxdOrd: 'relaxedOrdering',
    ExtTag: 'extendedTag',
    PhantFunc: 'phantomFunctions',
    AuxPwr: 'auxPower',
    NoSnoop: 'noSnoop',
  }),
  'Express/DevSta': label(0x10, 'DEVSTA', {
    CorrErr: 'correctableError',
    NonFatalErr: 'nonFatalError',
    FatalErr: 'fatalError',
    UnsupReq: 'unsupportedRequest',
    AuxPwr: 'auxPower',
    TransPend: 'transactionsPending',
  }),
  'Express/LnkCap': label(0x10, 'LNKCAP', {
    ClockPM: 'clockPm',
    Surprise: 'surpriseDown',
    LLActRep: 'linkActiveReporting',
    BwNot: 'bandwidthNotification',
    ASPMOptComp: 'aspmOptional',
  }),
  'Express/LnkCtl': label(0x10, 'LNKCTL', {
    Disabled: 'disable',
    LnkDisable: 'disable',
    CommClk: 'commonClock',
    ExtSynch: 'extendedSync',
    ClockPM: 'clockPm',
    AutWidDis: 'autonomousWidthDisable',
    BWInt: 'bandwidthInterrupt',
    AutBWInt: 'autonomousBandwidthInterrupt',
    FltModeDis: 'flitModeDisable',
  }),
  'Express/LnkSta': label(0x10, 'LNKSTA', {
    TrErr: 'trainingError',
    Train: 'training',
    SlotClk: 'slotClock',
    DLActive: 'linkActive',
    BWMgmt: 'bandwidthManagement',
    ABWMgmt: 'autonomousBandwidth',
  }),
  'Express/SltCap': label(0x10, 'SLTCAP', {
    AttnBtn: 'attentionButton',
    PwrCtrl: 'powerController',
    MRL: 'mrlSensor',
    AttnInd: 'attentionIndicator',
    PwrInd: 'powerIndicator',
    HotPlug: 'hotPlug',
    Surprise: 'surprise',
    Interlock: 'interlock',
    NoCompl: 'noCommandCompleted',
  }),
  'Express/SltCtl': label(0x10, 'SLTCTL', {
    AttnBtn: 'attentionButton',
    PwrFlt: 'powerFault',
    MRL: 'mrlSensor',
    PresDet: 'presenceDetect',
    CmdCplt: 'commandCompleted',
    HPIrq: 'hotPlugInterrupt',
    LinkChg: 'linkState',
    Power: 'powerOff',
    Interlock: 'interlock',
  }),
  'Express/RootCap': label(0x10, 'RTCAP', { CRSVisible: 'retryVisible' }),
  'Express/RootCtl': label(0x10, 'RTCTL', {
    ErrCorrectable: 'correctableErrors',
    'ErrNon-Fatal': 'nonFatalErrors',
    ErrFatal: 'fatalErrors',
    PMEIntEna: 'pmeInterrupt',
    CRSVisible: 'retryVisible',
  }),
  'Express/RootSta': label(0x10, 'RTSTA', { PMEStatus: 'pmeStatus', PMEPending: 'pmePending' }),
  'Express/DevCap2': label(0x10, 'DEVCAP2', {
    TimeoutDis: 'timeoutDisable',
    NROPrPrP: 'noRelaxedPassing',
    LTR: 'ltr',
    '10BitTagComp': 'tag10Completer',
    '10BitTagReq': 'tag10Requester',
    ExtFmt: 'extendedFormat',
    EETLPPrefix: 'endToEndPrefix',
    EmergencyPowerReductionInit: 'emergencyPowerInitialization',
    FRS: 'frs',
    ARIFwd: 'ariForwarding',
    Routing: 'atomicRouting',
    '32bit': 'atomic32',
    '64bit': 'atomic64',
    '128bitCAS': 'cas128',
  }),
  'Express/DevCtl2': label(0x10, 'DEVCTL2', {
    TimeoutDis: 'timeoutDisable',
    LTR: 'ltr',
    '10BitTagReq': 'tag10Requester',
    ARIFwd: 'ariForwarding',
    ReqEn: 'atomicRequester',
    EgressBlck: 'atomicEgressBlock',
    IDOReq: 'idOrderedRequests',
    IDOCompl: 'idOrderedCompletions',
    EmergencyPowerReductionReq: 'emergencyPowerRequest',
    EETLPPrefixBlk: 'endToEndPrefixBlock',
  }),
  'Express/LnkCap2': label(0x10, 'LNKCAP2', {
    Crosslink: 'crosslink',
    Retimer: 'retimerPresence',
    '2Retimers': 'twoRetimersPresence',
    DRS: 'drs',
  }),
  'Express/LnkCtl2': label(0x10, 'LNKCTL2', {
    EnterCompliance: 'enterCompliance',
    SpeedDis: 'autonomousSpeedDisable',
    EnterModifiedCompliance: 'enterModifiedCompliance',
    ComplianceSOS: 'complianceSos',
  }),
  'Express/LnkSta2': label(0x10, 'LNKSTA2', {
    EqualizationComplete: 'equalizationComplete',
    EqualizationPhase1: 'phase1',
    EqualizationPhase2: 'phase2',
    EqualizationPhase3: 'phase3',
    LinkEqualizationRequest: 'equalizationRequest',
    Retimer: 'retimer',
    '2Retimers': 'twoRetimers',
    FltMode: 'flitMode',
    DRS: 'drs',
  }),
  'Advanced Error Reporting/UESta': label(-1, 'UNCOR_STATUS', uncorrectable),
  'Advanced Error Reporting/UEMsk': label(-1, 'UNCOR_MASK', uncorrectable),
  'Advanced Error Reporting/UESvrt': label(-1, 'UNCOR_SEVER', uncorrectable),
  'Advanced Error Reporting/CESta': label(-1, 'COR_STATUS', correctable),
  'Advanced Error Reporting/CEMsk': label(-1, 'COR_MASK', correctable),
  'Advanced Error Reporting/AERCap': label(-1, 'CAP', {
    ECRCGenCap: 'ecrcGeneration',
    ECRCGenEn: 'ecrcGenerate',
    ECRCChkCap: 'ecrcChecking',
    ECRCChkEn: 'ecrcCheck',
    MultHdrRecCap: 'multipleHeaders',
    MultHdrRecEn: 'recordMultipleHeaders',
    TLPPfxPres: 'prefixLogged',
    HdrLogCap: 'timeoutHeaderLog',
  }),
  'Advanced Error Reporting/RootCmd': label(-1, 'ROOT_COMMAND', {
    CERptEn: 'correctable',
    NFERptEn: 'nonFatal',
    FERptEn: 'fatal',
  }),
  'Advanced Error Reporting/RootSta': label(-1, 'ROOT_STATUS', {
    CERcvd: 'correctable',
    MultCERcvd: 'multipleCorrectable',
    UERcvd: 'uncorrectable',
    MultUERcvd: 'multipleUncorrectable',
    FirstFatal: 'firstFatal',
    NonFatalMsg: 'nonFatal',
    FatalMsg: 'fatal',
  }),
  'Access Control Services/ACSCap': label(-0x0d, 'CAP', services),
  'Access Control Services/ACSCtl': label(-0x0d, 'CTRL', services),
  'Alternative Routing-ID Interpretation/ARICap': label(-0x0e, 'CAP', { MFVC: 'mfvc', ACS: 'acs' }),
  'Alternative Routing-ID Interpretation/ARICtl': label(-0x0e, 'CTRL', { MFVC: 'mfvc', ACS: 'acs' }),
  'Address Translation Service/ATSCtl': label(-0x0f, 'CTRL', { Enable: 'enable' }),
  'Single Root I/O Virtualization/IOVCap': label(-0x10, 'CAP', {
    Migration: 'migration',
    '10BitTagReq': 'tag10Requester',
  }),
  'Single Root I/O Virtualization/IOVCtl': label(-0x10, 'CTRL', {
    Enable: 'enable',
    Migration: 'migration',
    Interrupt: 'migrationInterrupt',
    MSE: 'memory',
    ARIHierarchy: 'ariHierarchy',
    '10BitTagReq': 'tag10Requester',
  }),
  'Page Request Interface/PRICtl': label(-0x13, 'CTRL', { Enable: 'enable', Reset: 'reset' }),
  'Page Request Interface/PRISta': label(-0x13, 'STATUS', {
    RF: 'responseFailure',
    UPRGI: 'unexpectedGroup',
    Stopped: 'stopped',
    PASID: 'pasidRequired',
  }),
  'Process Address Space ID/PASIDCap': label(-0x1b, 'CAP', { Exec: 'execute', Priv: 'privileged' }),
  'Process Address Space ID/PASIDCtl': label(-0x1b, 'CTRL', {
    Enable: 'enable',
    Exec: 'execute',
    Priv: 'privileged',
  }),
  'Downstream Port Containment/DpcCap': label(-0x1d, 'CAP', {
    RPExt: 'rootPortExtensions',
    PoisonedTLP: 'poisonedTlpBlocking',
    SwTrigger: 'softwareTrigger',
    DL_ActiveErr: 'linkActiveError',
  }),
  'Downstream Port Containment/DpcCtl': label(-0x1d, 'CTRL', {
    INT: 'interrupt',
    ErrCor: 'correctableError',
    PoisonedTLP: 'poisonedTlpBlocking',
    SwTrigger: 'softwareTrigger',
    DL_ActiveErr: 'linkActiveError',
  }),
  'Downstream Port Containment/DpcSta': label(-0x1d, 'STATUS', {
    Trigger: 'triggered',
    INT: 'interrupt',
    RPBusy: 'busy',
  }),
  'L1 PM Substates/L1SubCap': label(-0x1e, 'CAP', { ...substates, L1_PM_Substates: 'supported' }),
  'L1 PM Substates/L1SubCtl1': label(-0x1e, 'CTL1', substates),
  'Precision Time Measurement/PTMCap': label(-0x1f, 'CAP', {
    Requester: 'requester',
    Responder: 'responder',
    Root: 'root',
  }),
  'Precision Time Measurement/PTMControl': label(-0x1f, 'CTRL', {
    Enabled: 'enable',
    RootSelected: 'rootSelect',
  }),
  'Physical Layer 16.0 GT/s/Phy16Sta': label(-0x26, 'STATUS', {
    EquComplete: 'complete',
    EquPhase1: 'phase1',
    EquPhase2: 'phase2',
    EquPhase3: 'phase3',
    LinkEquRequest: 'request',
  }),
}

/** Values in the text of a capability: where, and the field that says the same. */
const values: readonly (readonly [string, RegExp, number, string, string, ((text: string) => unknown)?])[] = [
  ['Power Management', /AuxCurrent=(\d+)mA/, 1, 'PMC', 'auxMilliamperes', Number],
  ['Power Management', /Status: (D\d)/, 1, 'PMCSR', 'state', (text) => text.replace('D3', 'D3hot')],
  ['Power Management', /DSel=(\d+)/, 1, 'PMCSR', 'dataSelect', Number],
  ['Power Management', /DScale=(\d+)/, 1, 'PMCSR', 'dataScale', Number],
  ['MSI', /Count=\d+\/(\d+)/, 5, 'CONTROL', 'vectors', Number],
  ['MSI', /Count=(\d+)\//, 5, 'CONTROL', 'enabledVectors', Number],
  ['MSI', /Data: (\w+)/, 5, 'DATA', 'data', hex],
  ['MSI', /Masking: (\w+)/, 5, 'MASK', 'vectors', hex],
  ['MSI', /Pending: (\w+)/, 5, 'PENDING', 'vectors', hex],
  ['MSI-X', /Count=(\d+)/, 0x11, 'CONTROL', 'vectors', Number],
  ['MSI-X', /table: BAR=(\d)/, 0x11, 'TABLE', 'bar', Number],
  ['MSI-X', /table: BAR=\d offset=(\w+)/, 0x11, 'TABLE', 'offset', hex],
  ['MSI-X', /PBA: BAR=\d offset=(\w+)/, 0x11, 'PBA', 'offset', hex],
  ['Express', /DevCap:\tMaxPayload (\d+)/, 0x10, 'DEVCAP', 'maxPayloadBytes', Number],
  ['Express', /DevCap:.*Latency L0s (\S+),/, 0x10, 'DEVCAP', 'acceptableL0s'],
  ['Express', /DevCap:.*L1 (\S+)\n/, 0x10, 'DEVCAP', 'acceptableL1'],
  ['Express', /DevCap:.*\n.*SlotPowerLimit ([\d.]+)W/, 0x10, 'DEVCAP', 'slotPowerLimitWatts', Number],
  ['Express', /\t\t\tMaxPayload (\d+)/, 0x10, 'DEVCTL', 'maxPayloadBytes', Number],
  ['Express', /MaxReadReq (\d+)/, 0x10, 'DEVCTL', 'maxReadRequestBytes', Number],
  ['Express', /Port #(\d+)/, 0x10, 'LNKCAP', 'port', Number],
  ['Express', /LnkCap:.*Speed (\d\S*),/, 0x10, 'LNKCAP', 'speed'],
  ['Express', /LnkCap:.*Width x(\d+)/, 0x10, 'LNKCAP', 'width', Number],
  ['Express', /LnkSta:\tSpeed (\d\S*?)(?:,| )/, 0x10, 'LNKSTA', 'speed'],
  ['Express', /LnkSta:.*Width x(\d+)/, 0x10, 'LNKSTA', 'width', Number],
  ['Express', /RCB (\d+)/, 0x10, 'LNKCTL', 'readCompletionBytes', Number],
  ['Express', /Slot #(\d+)/, 0x10, 'SLTCAP', 'slot', Number],
  [
    'Express',
    /DevCtl2: Completion Timeout: (\d\w+ to \S+),/,
    0x10,
    'DEVCTL2',
    'timeout',
    (text) => text.replace(' to ', '-'),
  ],
  ['Express', /De-emphasis Level: (\S+),/, 0x10, 'LNKSTA2', 'deemphasis'],
  ['Advanced Error Reporting', /First Error Pointer: (\w+)/, -1, 'CAP', 'firstError', hex],
  ['Advanced Error Reporting', /ERR_COR: (\w+)/, -1, 'ROOT_SOURCE', 'correctable', hex],
  ['Alternative Routing-ID Interpretation', /Next Function: (\d+)/, -0x0e, 'CAP', 'nextFunction', Number],
  ['Alternative Routing-ID Interpretation', /Function Group: (\d+)/, -0x0e, 'CTRL', 'functionGroup', Number],
  [
    'Address Translation Service',
    /Unit: (\w+)/,
    -0x0f,
    'CTRL',
    'smallestUnitBytes',
    (text) => 4096 * 2 ** hex(text),
  ],
  ['Single Root I/O Virtualization', /Initial VFs: (\d+)/, -0x10, 'INITIAL_VF', 'functions', Number],
  ['Single Root I/O Virtualization', /Total VFs: (\d+)/, -0x10, 'TOTAL_VF', 'functions', Number],
  ['Single Root I/O Virtualization', /Number of VFs: (\d+)/, -0x10, 'NUM_VF', 'functions', Number],
  ['Single Root I/O Virtualization', /VF offset: (\d+)/, -0x10, 'VF_OFFSET', 'routingIds', Number],
  ['Single Root I/O Virtualization', /stride: (\d+)/, -0x10, 'VF_STRIDE', 'routingIds', Number],
  ['Single Root I/O Virtualization', /Device ID: (\w+)/, -0x10, 'VF_DID', 'device', hex],
  ['Single Root I/O Virtualization', /Supported Page Size: (\w+)/, -0x10, 'SUP_PGSIZE', 'pages4k', hex],
  ['Page Request Interface', /Capacity: (\w+)/, -0x13, 'MAX_REQ', 'requests', hex],
  ['Page Request Interface', /Allocation: (\w+)/, -0x13, 'ALLOC_REQ', 'requests', hex],
  ['Process Address Space ID', /Width: (\w+)/, -0x1b, 'CAP', 'bits', hex],
  ['Downstream Port Containment', /IntMsgNum (\d+)/, -0x1d, 'CAP', 'messageNumber', Number],
  ['Downstream Port Containment', /RP PIO Log (\d+)/, -0x1d, 'CAP', 'pioLogWords', Number],
  ['Downstream Port Containment', /ErrPtr:(\w+)/, -0x1d, 'STATUS', 'pioFirstError', hex],
  ['Downstream Port Containment', /Source:\t(\w+)/, -0x1d, 'SOURCE_ID', 'requester', hex],
  ['L1 PM Substates', /PortCommonModeRestoreTime=(\d+)us/, -0x1e, 'CAP', 'commonModeRestoreUs', Number],
  ['L1 PM Substates', /PortTPowerOnTime=(\d+)us/, -0x1e, 'CAP', 'powerOnUs', Number],
  ['L1 PM Substates', /T_CommonMode=(\d+)us/, -0x1e, 'CTL1', 'commonModeRestoreUs', Number],
  ['L1 PM Substates', /LTR1.2_Threshold=(\d+)ns/, -0x1e, 'CTL1', 'ltrL12ThresholdNs', Number],
  ['L1 PM Substates', /T_PwrOn=(\d+)us/, -0x1e, 'CTL2', 'powerOnUs', Number],
  ['Designated Vendor-Specific', /Vendor=(\w+)/, -0x23, 'HEADER1', 'vendor', hex],
  ['Designated Vendor-Specific', /Rev=(\d+)/, -0x23, 'HEADER1', 'revision', Number],
  ['Designated Vendor-Specific', /Len=(\d+)/, -0x23, 'HEADER1', 'lengthBytes', Number],
  ['Vendor Specific Information', /ID=(\w+) Rev/, -0x0b, 'HEADER', 'id', hex],
]

function hex(text: string): number {
  return Number.parseInt(text, 16)
}

/** What both say of one device. A label or a value that lspci does not print for it is no fact. */
export function facts(text: string, described: ConfigDescription): Fact[] {
  const fieldOf = (id: number, register: string, field: string): unknown => {
    const list =
      id === 0
        ? described.header
        : id > 0
          ? described.capabilities.find((capability) => capability.id === id)?.registers
          : described.extendedCapabilities.find((capability) => capability.id === -id)?.registers
    return list?.find(({ name }) => name === register)?.fields[field]
  }
  const found: Fact[] = []
  // D1 and D2 stand twice in a line: as states, and as states in which the device wakes.
  const distinct = text.replace(/PME\((.*)\)/, (_, list: string) => list.replaceAll('D', 'PME-D'))
  for (const [i, block] of distinct.split(/^\tCapabilities: \[\w+(?: v\d+)?\] /m).entries()) {
    const title =
      i === 0 ? 'header' : (/^(?:MSI(?:-X)?|Express|[^:(\n]+?)(?=:| \(| version|\n|$)/.exec(block)?.[0] ?? '')
    // A label, and all up to the next one, which begins a line with fewer tabs or stands at the same depth.
    for (const [, name, rest] of block.matchAll(/(?:^|^\t+)([A-Z][\w-]*):((?:.*\n?)(?:^\t\t\t.*\n?)*)/gm)) {
      const known = labels[`${title}/${name}`]
      if (known === undefined) continue
      for (const [, flag, sign] of rest!.matchAll(/(?<=^|[\s,(])([^\s,(]+?)([+-])(?=[\s,;)]|$)/g)) {
        const field = known.flags[flag!]
        if (field === undefined) continue
        found.push({
          what: `${title} ${name} ${flag}`,
          theirs: sign === '+',
          ours: fieldOf(known.id, known.register, field),
        })
      }
    }
    for (const [of, pattern, id, register, field, read = String] of values) {
      const theirs = of === title ? pattern.exec(block)?.[1] : undefined
      if (theirs !== undefined)
        found.push({
          what: `${of} ${register}.${field}`,
          theirs: read(theirs),
          ours: fieldOf(id, register, field),
        })
    }
  }
  return found
}
