import { accelError } from '@uaccel/uapi'
import { Admin, type AdminCommand, PAGE_BYTES } from './command.js'

/** How many bytes a command moves, by its words. */
type Length = (command: Required<AdminCommand>) => number
const page: Length = () => PAGE_BYTES
const none: Length = () => 0

/**
 * The admin commands that a client may issue, with what they move at most (NVMe base 1.4, section 5): for one that is not here nothing
 * bounds what the device does with memory, or it would take queues from under the driver.
 */
const allowed: Readonly<Record<number, Length>> = {
  // A count of words from 0, its upper half in CDW11 (5.14).
  [Admin.getLogPage]: ({ cdw10, cdw11 }) => 4 * ((cdw10 >>> 16) + (cdw11 & 0xffff) * 0x1_0000 + 1),
  [Admin.identify]: page,
  [Admin.getFeatures]: page,
  [Admin.namespaceManagement]: page,
  [Admin.namespaceAttachment]: page,
  [Admin.deviceSelfTest]: none,
  [Admin.sanitize]: none,
}

/** Bits 1:0 of an opcode say where its data goes (4.2). */
const TO_DEVICE = 1
const FROM_DEVICE = 2

/** What a raw command moves, and where to. `ERR_ACCEL_UNSUPPORTED` for one that is not let through, `ERR_ACCEL_OUT_OF_RANGE` for more than a page. */
export function checkAdmin(
  command: Required<AdminCommand>,
  dataBytes: number,
): { toDevice: boolean; sizeBytes: number } {
  const { opcode } = command
  const length = allowed[opcode]
  const name = `Admin command 0x${opcode.toString(16)}`
  if (length === undefined) {
    const may = Object.keys(allowed).map((each) => `0x${Number(each).toString(16)}`)
    throw accelError('ERR_ACCEL_UNSUPPORTED', `${name} is not let through; those that are: ${may.join(', ')}`)
  }
  const direction = opcode & 3
  const sizeBytes = direction === 0 ? 0 : length(command)
  if (sizeBytes > PAGE_BYTES)
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${name} moves ${sizeBytes} bytes, wanted at most ${PAGE_BYTES}`,
    )
  if (dataBytes > 0 && direction !== TO_DEVICE)
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${name} takes no data, found ${dataBytes} bytes`)
  return { toDevice: direction === TO_DEVICE, sizeBytes: direction === FROM_DEVICE ? sizeBytes : 0 }
}
