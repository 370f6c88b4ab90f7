import { type AccelError, accelError, type ErrorCode } from '@uaccel/uapi'

type Entry = readonly [name: string, code: ErrorCode]
const io = (name: string): Entry => [name, 'ERR_ACCEL_IO']
const invalid = (name: string): Entry => [name, 'ERR_ACCEL_INVALID_ARGUMENT']
const range = (name: string): Entry => [name, 'ERR_ACCEL_OUT_OF_RANGE']
const refused = (name: string): Entry => [name, 'ERR_ACCEL_PERMISSION']
const unsupported = (name: string): Entry => [name, 'ERR_ACCEL_UNSUPPORTED']
const again = (name: string): Entry => [name, 'ERR_ACCEL_AGAIN']
const fault = (name: string): Entry => [name, 'ERR_ACCEL_DMA_FAULT']

/** Status code types (NVMe base 1.4, 4.6.1.1). */
const TYPES = ['generic', 'command specific', 'media', 'path'] as const

/** Status codes by type << 8 | code (NVMe base 1.4, 4.6.1.2), and the error that a command ends with. */
const statuses: Readonly<Record<number, Entry>> = {
  1: unsupported('INVALID_OPCODE'),
  2: invalid('INVALID_FIELD'),
  3: io('COMMAND_ID_CONFLICT'),
  4: fault('DATA_TRANSFER_ERROR'),
  5: io('ABORTED_POWER_LOSS'),
  6: io('INTERNAL_ERROR'),
  7: ['ABORT_REQUESTED', 'ERR_ACCEL_TIMEOUT'], // the driver asks for it where a command is late
  8: io('ABORTED_SQ_DELETION'),
  9: io('ABORTED_FUSED_FAILED'),
  10: io('ABORTED_FUSED_MISSING'),
  11: invalid('INVALID_NAMESPACE_OR_FORMAT'),
  12: io('COMMAND_SEQUENCE_ERROR'),
  13: invalid('INVALID_SGL_SEGMENT'),
  14: invalid('INVALID_SGL_COUNT'),
  15: invalid('INVALID_SGL_LENGTH'),
  16: invalid('INVALID_METADATA_SGL_LENGTH'),
  17: invalid('INVALID_SGL_TYPE'),
  18: invalid('INVALID_USE_OF_CMB'),
  19: invalid('INVALID_PRP_OFFSET'),
  20: range('ATOMIC_WRITE_UNIT_EXCEEDED'),
  21: refused('OPERATION_DENIED'),
  22: invalid('INVALID_SGL_OFFSET'),
  24: invalid('HOST_ID_FORMAT'),
  25: io('KEEP_ALIVE_EXPIRED'),
  26: invalid('INVALID_KEEP_ALIVE'),
  27: io('ABORTED_PREEMPTED'),
  28: io('SANITIZE_FAILED'),
  29: again('SANITIZE_IN_PROGRESS'),
  30: invalid('INVALID_SGL_GRANULARITY'),
  31: unsupported('NOT_SUPPORTED_FOR_CMB_QUEUE'),
  32: refused('NAMESPACE_WRITE_PROTECTED'),
  33: again('COMMAND_INTERRUPTED'),
  34: again('TRANSIENT_TRANSPORT_ERROR'),
  128: range('LBA_OUT_OF_RANGE'),
  129: range('CAPACITY_EXCEEDED'),
  130: again('NAMESPACE_NOT_READY'),
  131: ['RESERVATION_CONFLICT', 'ERR_ACCEL_BUSY'],
  132: again('FORMAT_IN_PROGRESS'),
  256: invalid('INVALID_COMPLETION_QUEUE'),
  257: invalid('INVALID_QUEUE_ID'),
  258: range('INVALID_QUEUE_SIZE'),
  259: again('ABORT_LIMIT_EXCEEDED'),
  261: again('ASYNC_EVENT_LIMIT_EXCEEDED'),
  262: invalid('INVALID_FIRMWARE_SLOT'),
  263: ['INVALID_FIRMWARE_IMAGE', 'ERR_ACCEL_FIRMWARE'],
  264: invalid('INVALID_INTERRUPT_VECTOR'),
  265: invalid('INVALID_LOG_PAGE'),
  266: invalid('INVALID_FORMAT'),
  267: again('FIRMWARE_NEEDS_CONVENTIONAL_RESET'),
  268: invalid('INVALID_QUEUE_DELETION'),
  269: unsupported('FEATURE_NOT_SAVEABLE'),
  270: unsupported('FEATURE_NOT_CHANGEABLE'),
  271: unsupported('FEATURE_NOT_NAMESPACE_SPECIFIC'),
  272: again('FIRMWARE_NEEDS_SUBSYSTEM_RESET'),
  273: again('FIRMWARE_NEEDS_CONTROLLER_RESET'),
  274: again('FIRMWARE_NEEDS_MAXIMUM_TIME'),
  275: refused('FIRMWARE_ACTIVATION_PROHIBITED'),
  276: invalid('OVERLAPPING_RANGE'),
  277: range('NAMESPACE_INSUFFICIENT_CAPACITY'),
  278: range('NAMESPACE_ID_UNAVAILABLE'),
  280: invalid('NAMESPACE_ALREADY_ATTACHED'),
  281: refused('NAMESPACE_IS_PRIVATE'),
  282: invalid('NAMESPACE_NOT_ATTACHED'),
  283: unsupported('THIN_PROVISIONING_NOT_SUPPORTED'),
  284: invalid('INVALID_CONTROLLER_LIST'),
  285: again('SELF_TEST_IN_PROGRESS'),
  286: refused('BOOT_PARTITION_WRITE_PROHIBITED'),
  287: invalid('INVALID_CONTROLLER_ID'),
  288: invalid('INVALID_SECONDARY_CONTROLLER_STATE'),
  289: invalid('INVALID_CONTROLLER_RESOURCES'),
  290: invalid('INVALID_RESOURCE_ID'),
  291: refused('SANITIZE_PROHIBITED_WITH_PMR'),
  292: invalid('INVALID_ANA_GROUP'),
  293: io('ANA_ATTACH_FAILED'),
  384: invalid('CONFLICTING_ATTRIBUTES'),
  385: invalid('INVALID_PROTECTION_INFORMATION'),
  386: refused('WRITE_TO_READ_ONLY_RANGE'),
  640: io('WRITE_FAULT'),
  641: io('UNRECOVERED_READ_ERROR'),
  642: io('GUARD_CHECK_ERROR'),
  643: io('APPLICATION_TAG_CHECK_ERROR'),
  644: io('REFERENCE_TAG_CHECK_ERROR'),
  645: io('COMPARE_FAILURE'),
  646: refused('ACCESS_DENIED'),
  647: io('UNWRITTEN_BLOCK'),
  768: io('INTERNAL_PATH_ERROR'),
  769: io('ANA_PERSISTENT_LOSS'),
  770: io('ANA_INACCESSIBLE'),
  771: again('ANA_TRANSITION'),
  864: io('CONTROLLER_PATH_ERROR'),
  880: io('HOST_PATH_ERROR'),
  881: io('ABORTED_BY_HOST'),
}

/** Bits of the status field, without the phase bit (4.6.1): code, its type, and that a repetition will not help. */
const CODE_AND_TYPE = 0x7ff
const DO_NOT_RETRY = 1 << 14

/** The name of a status field (15 bits, without the phase bit). */
export function statusName(status: number): string {
  const known = statuses[status & CODE_AND_TYPE]
  if (known !== undefined) return known[0]
  const type = (status >> 8) & 7
  return `${TYPES[type] ?? (type === 7 ? 'vendor specific' : `type ${type}`)} 0x${(status & 0xff).toString(16)}`
}

/** Every status that has a name, as type << 8 | code. */
export const knownStatuses: readonly number[] = Object.keys(statuses).map(Number)

/** The error for a command that did not succeed. `details`: command, status (name), statusCode, retry. */
export function statusError(command: string, status: number): AccelError {
  const statusCode = status & CODE_AND_TYPE
  const name = statusName(status)
  const retry = (status & DO_NOT_RETRY) === 0
  return accelError(
    statuses[statusCode]?.[1] ?? 'ERR_ACCEL_IO',
    `NVMe ${command} ended with ${name} (status 0x${statusCode.toString(16)})${retry ? '' : ', which a repetition would not change'}`,
    { details: { command, status: name, statusCode, retry } },
  )
}
