import { accelError } from '@uaccel/uapi'

/** A command that is understood and wrong: answered with EINVAL. */
export function invalid(message: string) {
  return accelError('ERR_ACCEL_INVALID_ARGUMENT', message)
}

export function exactSize(name: string, payload: Buffer, wanted: number): void {
  if (payload.length !== wanted) throw invalid(`${name} of ${payload.length} bytes; ${wanted} are wanted.`)
}

export function safeNumber(value: bigint, field: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`A ${field} of 0x${value.toString(16)}.`)
  return Number(value)
}
