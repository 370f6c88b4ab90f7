/** Codes of the project's table (`errorTable` of @uaccel/uapi) that this package uses. The table itself would be one more package to fetch. */
export type Code =
  | 'ERR_ACCEL_INVALID_ARGUMENT'
  | 'ERR_ACCEL_OUT_OF_RANGE'
  | 'ERR_ACCEL_NOT_FOUND'
  | 'ERR_ACCEL_PERMISSION'
  | 'ERR_ACCEL_SYSTEM'
  | 'ERR_ACCEL_BUSY'

/** Why no package was made: what was wanted, what was found, what to do. */
export class CreateError extends Error {
  readonly code: Code

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CreateError'
    this.code = code
  }
}
