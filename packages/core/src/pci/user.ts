import { userInfo } from 'node:os'
import { shellWord } from './machine.js'

/** The user whose rights this process has, as chown takes it: a name, or a number where it has none. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.() ?? 0)
  }
}

/** The command for root that gives a node to the user of this process. */
export const chownCommand = (path: string): string => `chown ${shellWord(userName())} ${shellWord(path)}`
