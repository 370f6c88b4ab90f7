import { execFileSync } from 'node:child_process'
import type { NodeOwner } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'

/**
 * `USER`, `USER:GROUP` or `:GROUP`, names or numbers, as chown takes them.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_NOT_FOUND for a name that this machine does not know
 */
export function parseOwner(text: string): NodeOwner {
  const match = /^([\w.][\w.@-]*\$?)?(?::([\w.][\w.@-]*))?$/.exec(text)
  if (match === null || text === '') {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `"${text}" is no owner: wanted USER, USER:GROUP or :GROUP`)
  }
  const [, user, group] = match
  return {
    ...(user === undefined ? {} : { uid: numberOf('passwd', 'user', user) }),
    ...(group === undefined ? {} : { gid: numberOf('group', 'group', group) }),
  }
}

/** From the databases that the machine uses, such as LDAP, which are no files. uid and gid are third in their lines (passwd(5), group(5)). */
function numberOf(database: 'passwd' | 'group', kind: string, name: string): number {
  if (/^\d{1,9}$/.test(name)) return Number(name)
  try {
    const line = execFileSync('getent', [database, name], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [, , number] = line.split(':')
    if (number !== undefined && /^\d+$/.test(number)) return Number(number)
  } catch (cause) {
    throw accelError('ERR_ACCEL_NOT_FOUND', `this machine has no ${kind} ${name}`, { cause })
  }
  throw accelError('ERR_ACCEL_NOT_FOUND', `this machine has no ${kind} ${name}`)
}
