import { accelError } from '@uaccel/uapi'
import type { AnyMatrix } from './types.js'

/** What makes an export a matrix, also where the module was loaded from another copy of this package. */
export const MATRIX: unique symbol = Symbol.for('@uaccel/testkit fault matrix')

/** The exports of a module that are matrices. */
export async function matricesOf(module: string): Promise<Map<string, AnyMatrix>> {
  const exports = (await import(module)) as Record<string, unknown>
  return new Map(
    Object.entries(exports).filter(
      (entry): entry is [string, AnyMatrix] =>
        typeof entry[1] === 'object' && entry[1] !== null && MATRIX in entry[1],
    ),
  )
}

/** The matrix that a module exports under that name. @throws ERR_ACCEL_NOT_FOUND */
export async function findMatrix(module: string, name: string): Promise<AnyMatrix> {
  const found = (await matricesOf(module)).get(name)
  if (found !== undefined) return found
  throw accelError('ERR_ACCEL_NOT_FOUND', `${module} exports no fault matrix named ${name}`)
}
