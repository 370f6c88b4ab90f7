import { type AccelError, accelError, type ErrorCode, type ErrorExtras } from '@uaccel/uapi'

/** A client of a served model may go on for ever; the first violations say what is wrong with it. */
const MAX_KEPT = 1000

/**
 * What a driver did against the rules of its device, in order of appearance. A test empties it when it provoked one. The first
 * 1000 are kept, the others counted.
 */
export class Violations extends Array<AccelError> {
  #dropped = 0

  /** How many came after the list was full. */
  get dropped(): number {
    return this.#dropped
  }

  /** Keeps a violation and answers it, to be thrown. */
  record(code: ErrorCode, message: string, extras?: ErrorExtras): AccelError {
    const violation = accelError(code, message, extras)
    if (this.length < MAX_KEPT) this.push(violation)
    else this.#dropped++
    return violation
  }

  /** Throws the first violation with all of them in its message, so that a test fails that did not expect them. */
  assertClean(): void {
    const [first] = this
    if (first === undefined) return
    const lines = Array.from(this, (violation) => `\n  ${violation.code}: ${violation.message}`)
    throw accelError(
      first.code,
      `${this.length + this.#dropped} violation(s) of the device's rules:${lines.join('')}`,
      {
        cause: first,
      },
    )
  }

  /** Answers the violations so far and forgets them. */
  take(): AccelError[] {
    this.#dropped = 0
    return Array.from(this.splice(0))
  }
}

/** `0x1f`: how offsets and addresses are written in messages. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
