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

/** Status codes by type << 8 | code: all that NVMe base 1.4 defines for PCI Express (4.6.1.2), and the error that a command ends with. */
const statuses: ReadonlyMap<number, Entry> = new Map([
  [0x001, unsupported('INVALID_OPCODE')],
  [0x002, invalid('INVALID_FIELD')],
  [0x003, io('COMMAND_ID_CONFLICT')],
  [0x004, fault('DATA_TRANSFER_ERROR')],
  [0x005, io('ABORTED_POWER_LOSS')],
  [0x006, io('INTERNAL_ERROR')],
  [0x007, ['ABORT_REQUESTED', 'ERR_ACCEL_TIMEOUT']], // the driver asks for it where a command is late
  [0x008, io('ABORTED_SQ_DELETION')],
  [0x009, io('ABORTED_FUSED_FAILED')],
  [0x00a, io('ABORTED_FUSED_MISSING')],
  [0x00b, invalid('INVALID_NAMESPACE_OR_FORMAT')],
  [0x00c, io('COMMAND_SEQUENCE_ERROR')],
  [0x00d, invalid('INVALID_SGL_SEGMENT')],
  [0x00e, invalid('INVALID_SGL_COUNT')],
  [0x00f, invalid('INVALID_SGL_LENGTH')],
  [0x010, invalid('INVALID_METADATA_SGL_LENGTH')],
  [0x011, invalid('INVALID_SGL_TYPE')],
  [0x012, invalid('INVALID_USE_OF_CMB')],
  [0x013, invalid('INVALID_PRP_OFFSET')],
  [0x014, range('ATOMIC_WRITE_UNIT_EXCEEDED')],
  [0x015, refused('OPERATION_DENIED')],
  [0x016, invalid('INVALID_SGL_OFFSET')],
  [0x018, invalid('HOST_ID_FORMAT')],
  [0x019, io('KEEP_ALIVE_EXPIRED')],
  [0x01a, invalid('INVALID_KEEP_ALIVE')],
  [0x01b, io('ABORTED_PREEMPTED')],
  [0x01c, io('SANITIZE_FAILED')],
  [0x01d, again('SANITIZE_IN_PROGRESS')],
  [0x01e, invalid('INVALID_SGL_GRANULARITY')],
  [0x01f, unsupported('NOT_SUPPORTED_FOR_CMB_QUEUE')],
  [0x020, refused('NAMESPACE_WRITE_PROTECTED')],
  [0x021, again('COMMAND_INTERRUPTED')],
  [0x022, again('TRANSIENT_TRANSPORT_ERROR')],
  [0x080, range('LBA_OUT_OF_RANGE')],
  [0x081, range('CAPACITY_EXCEEDED')],
  [0x082, again('NAMESPACE_NOT_READY')],
  [0x083, ['RESERVATION_CONFLICT', 'ERR_ACCEL_BUSY']],
  [0x084, again('FORMAT_IN_PROGRESS')],
  [0x100, invalid('INVALID_COMPLETION_QUEUE')],
  [0x101, invalid('INVALID_QUEUE_ID')],
  [0x102, range('INVALID_QUEUE_SIZE')],
  [0x103, again('ABORT_LIMIT_EXCEEDED')],
  [0x105, again('ASYNC_EVENT_LIMIT_EXCEEDED')],
  [0x106, invalid('INVALID_FIRMWARE_SLOT')],
  [0x107, ['INVALID_FIRMWARE_IMAGE', 'ERR_ACCEL_FIRMWARE']],
  [0x108, invalid('INVALID_INTERRUPT_VECTOR')],
  [0x109, invalid('INVALID_LOG_PAGE')],
  [0x10a, invalid('INVALID_FORMAT')],
  [0x10b, again('FIRMWARE_NEEDS_CONVENTIONAL_RESET')],
  [0x10c, invalid('INVALID_QUEUE_DELETION')],
  [0x10d, unsupported('FEATURE_NOT_SAVEABLE')],
  [0x10e, unsupported('FEATURE_NOT_CHANGEABLE')],
  [0x10f, unsupported('FEATURE_NOT_NAMESPACE_SPECIFIC')],
  [0x110, again('FIRMWARE_NEEDS_SUBSYSTEM_RESET')],
  [0x111, again('FIRMWARE_NEEDS_CONTROLLER_RESET')],
  [0x112, again('FIRMWARE_NEEDS_MAXIMUM_TIME')],
  [0x113, refused('FIRMWARE_ACTIVATION_PROHIBITED')],
  [0x114, invalid('OVERLAPPING_RANGE')],
  [0x115, range('NAMESPACE_INSUFFICIENT_CAPACITY')],
  [0x116, range('NAMESPACE_ID_UNAVAILABLE')],
  [0x118, invalid('NAMESPACE_ALREADY_ATTACHED')],
  [0x119, refused('NAMESPACE_IS_PRIVATE')],
  [0x11a, invalid('NAMESPACE_NOT_ATTACHED')],
  [0x11b, unsupported('THIN_PROVISIONING_NOT_SUPPORTED')],
  [0x11c, invalid('INVALID_CONTROLLER_LIST')],
  [0x11d, again('SELF_TEST_IN_PROGRESS')],
  [0x11e, refused('BOOT_PARTITION_WRITE_PROHIBITED')],
  [0x11f, invalid('INVALID_CONTROLLER_ID')],
  [0x120, invalid('INVALID_SECONDARY_CONTROLLER_STATE')],
  [0x121, invalid('INVALID_CONTROLLER_RESOURCES')],
  [0x122, invalid('INVALID_RESOURCE_ID')],
  [0x123, refused('SANITIZE_PROHIBITED_WITH_PMR')],
  [0x124, invalid('INVALID_ANA_GROUP')],
  [0x125, io('ANA_ATTACH_FAILED')],
  [0x180, invalid('CONFLICTING_ATTRIBUTES')],
  [0x181, invalid('INVALID_PROTECTION_INFORMATION')],
  [0x182, refused('WRITE_TO_READ_ONLY_RANGE')],
  [0x183, range('COMMAND_SIZE_LIMIT_EXCEEDED')], // of copy (TP 4065)
  [0x280, io('WRITE_FAULT')],
  [0x281, io('UNRECOVERED_READ_ERROR')],
  [0x282, io('GUARD_CHECK_ERROR')],
  [0x283, io('APPLICATION_TAG_CHECK_ERROR')],
  [0x284, io('REFERENCE_TAG_CHECK_ERROR')],
  [0x285, io('COMPARE_FAILURE')],
  [0x286, refused('ACCESS_DENIED')],
  [0x287, io('UNWRITTEN_BLOCK')],
  [0x300, io('INTERNAL_PATH_ERROR')],
  [0x301, io('ANA_PERSISTENT_LOSS')],
  [0x302, io('ANA_INACCESSIBLE')],
  [0x303, again('ANA_TRANSITION')],
  [0x360, io('CONTROLLER_PATH_ERROR')],
  [0x370, io('HOST_PATH_ERROR')],
  [0x371, io('ABORTED_BY_HOST')],
])

/** Bits of the status field, without the phase bit (4.6.1): code, its type, and that a repetition will not help. */
const CODE_AND_TYPE = 0x7ff
const DO_NOT_RETRY = 1 << 14

/** The name of a status field (15 bits, without the phase bit). */
export function statusName(status: number): string {
  const known = statuses.get(status & CODE_AND_TYPE)
  if (known !== undefined) return known[0]
  const type = (status >> 8) & 7
  return `${TYPES[type] ?? (type === 7 ? 'vendor specific' : `type ${type}`)} 0x${(status & 0xff).toString(16)}`
}

/** Every status that has a name, as type << 8 | code. */
export const knownStatuses: readonly number[] = [...statuses.keys()]

/** The error for a command that did not succeed. `details`: command, status (name), statusCode, retry. */
export function statusError(command: string, status: number): AccelError {
  const statusCode = status & CODE_AND_TYPE
  const name = statusName(status)
  const retry = (status & DO_NOT_RETRY) === 0
  return accelError(
    statuses.get(statusCode)?.[1] ?? 'ERR_ACCEL_IO',
    `NVMe ${command} ended with ${name} (status 0x${statusCode.toString(16)})${retry ? '' : ', which a repetition would not change'}`,
    { details: { command, status: name, statusCode, retry } },
  )
}
