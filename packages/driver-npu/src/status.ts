import { type AccelError, accelError, type ErrorCode } from '@uaccel/uapi'

/** Status of a completion: docs/devices/npu.md, 10.1, and the error that the job ends with. */
const statuses: Readonly<Record<number, readonly [name: string, code: ErrorCode, meaning: string]>> = {
  1: [
    'INVALID_OPCODE',
    'ERR_ACCEL_UNSUPPORTED',
    'the device does not have the operation: see opcodes of its capabilities; steps on tensors with strides came with version 1.1',
  ],
  2: ['INVALID_FIELD', 'ERR_ACCEL_INVALID_ARGUMENT', 'a field of the descriptor is not allowed'],
  3: ['INVALID_PARAM_SIZE', 'ERR_ACCEL_INVALID_ARGUMENT', 'the parameter block has a wrong size'],
  4: ['INVALID_PARAM', 'ERR_ACCEL_INVALID_ARGUMENT', 'a parameter is out of its range'],
  5: ['INVALID_VERSION', 'ERR_ACCEL_VERSION', 'the parameter block has an unknown version'],
  6: ['INVALID_TYPE', 'ERR_ACCEL_UNSUPPORTED', 'the data type is not allowed there'],
  7: ['LIMIT', 'ERR_ACCEL_OUT_OF_RANGE', 'a tensor or the work is too large'],
  8: ['MISALIGNED', 'ERR_ACCEL_INVALID_ARGUMENT', 'an address is not aligned'],
  16: ['WINDOW_READ', 'ERR_ACCEL_PERMISSION', 'an input lies outside the windows of the queue'],
  17: ['WINDOW_WRITE', 'ERR_ACCEL_PERMISSION', 'the destination lies outside the windows of the queue'],
  18: ['DMA_READ', 'ERR_ACCEL_DMA_FAULT', 'the bus refused a read'],
  19: ['DMA_WRITE', 'ERR_ACCEL_DMA_FAULT', 'the bus refused a write'],
  32: ['ARITHMETIC', 'ERR_ACCEL_INVALID_ARGUMENT', 'a zero point, clamp, scale or multiplier is not allowed'],
  48: ['ABORTED', 'ERR_ACCEL_ABORTED', 'the queue was stopped before it started'],
  63: ['INTERNAL', 'ERR_ACCEL_IO', 'the execution unit failed'],
}

/** The error for a step that the device refused or failed. `details`: step, operation, status (name), statusCode, detail. */
export function stepError(step: number, operation: string, statusCode: number, detail: number): AccelError {
  const [status, code, meaning] = statuses[statusCode] ?? [
    `0x${statusCode.toString(16)}`,
    'ERR_ACCEL_IO',
    'an unknown status',
  ]
  return accelError(
    code,
    `Step ${step} (${operation}) of the job ended with ${status}, detail 0x${detail.toString(16)}: ${meaning}`,
    {
      details: { step, operation, status, statusCode, detail },
    },
  )
}
