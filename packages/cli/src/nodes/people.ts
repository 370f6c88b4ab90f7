import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const users = new Map<number, string>()

/** The name of a user, or the number where this machine has none. Each is looked up once. */
export function userName(uid: number): string {
  let name = users.get(uid)
  if (name === undefined) {
    name = lookUp(uid) ?? `${uid}`
    users.set(uid, name)
  }
  return name
}

/** From the databases that the machine uses, such as LDAP, which are no files. The name is first in its line (passwd(5)). */
function lookUp(uid: number): string | undefined {
  try {
    const line = execFileSync('getent', ['passwd', `${uid}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 1000,
    })
    return line.split(':')[0] || undefined
  } catch {
    return undefined
  }
}

/** The command line of a process of this machine, as far as this user may see it (proc(5)). */
export function commandLine(pid: number): string | undefined {
  if (pid <= 0) return undefined
  try {
    const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replace(/\0+$/, '').replaceAll('\0', ' ')
    return text || readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return undefined // it has ended, or is of another pid namespace
  }
}
