import { readFileSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'

/** Names and numbers of the users or groups of this system: the first and third field of a line. passwd(5), group(5) */
function entries(file: string): [name: string, id: number][] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
      .filter((fields) => fields.length > 2)
      .map(([name, , id]) => [name!, Number(id)])
  } catch {
    return [] // a container may have none: numbers do then
  }
}

/** The name of a user, or `uid 1000` where it has none. */
export function userName(uid: number): string {
  return entries('/etc/passwd').find(([, id]) => id === uid)?.[0] ?? `uid ${uid}`
}

/** The number of a user or group, given by number or name. */
export function accountId(kind: 'user' | 'group', wanted: number | string): number {
  if (typeof wanted === 'number') {
    if (Number.isInteger(wanted) && wanted >= 0 && wanted < 2 ** 32 - 1) return wanted
    throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${wanted} is not the number of a ${kind}`)
  }
  const file = kind === 'user' ? '/etc/passwd' : '/etc/group'
  const found = entries(file).find(([name]) => name === wanted)
  if (found) return found[1]
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `There is no ${kind} "${wanted}" in ${file}: add it, or give its number`,
  )
}
