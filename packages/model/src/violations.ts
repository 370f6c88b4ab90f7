import { type AccelError, accelError, type ErrorCode, type ErrorExtras } from '@uaccel/uapi'

/** What a driver did against the rules of its device, in order of appearance. A test empties it when it provoked one. */
export class Violations extends Array<AccelError> {
  /** Keeps a violation and answers it, to be thrown. */
  record(code: ErrorCode, message: string, extras?: ErrorExtras): AccelError {
    const violation = accelError(code, message, extras)
    this.push(violation)
    return violation
  }

  /** Throws the first violation with all of them in its message, so that a test fails that did not expect them. */
  assertClean(): void {
    const [first] = this
    if (first === undefined) return
    const lines = Array.from(this, (violation) => `\n  ${violation.code}: ${violation.message}`)
    throw accelError(first.code, `${this.length} violation(s) of the device's rules:${lines.join('')}`, {
      cause: first,
    })
  }

  /** Answers all violations so far and forgets them. */
  take(): AccelError[] {
    return Array.from(this.splice(0))
  }
}

/** `0x1f`: how offsets and addresses are written in messages. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
