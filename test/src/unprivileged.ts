import { statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The user nobody, as Debian and others number it. */
export const NOBODY = 65_534

/**
 * This process's environment without what the test runner put there: its loader writes files, where the file system is read-only or
 * another user may not.
 */
export const plainEnv: Readonly<Record<string, string | undefined>> = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('_TAPJS_')),
)

const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** The first folder above this checkout that other users may not enter, such as the home of root. */
function closedFolder(): string | undefined {
  const names = checkout.split('/')
  const above = names.slice(1, -1).map((_, i) => names.slice(0, i + 2).join('/'))
  return above.find((folder) => (statSync(folder).mode & 0o5) !== 0o5)
}

/** Has `command`, in a mount namespace that is its own, see the checkout, and nothing else, in that folder. */
export function reachable(command: readonly string[]): readonly string[] {
  const closed = closedFolder()
  if (closed === undefined || process.execPath.startsWith(`${closed}/`)) return command
  const script =
    'set -e; from=$PWD; kept=$(mktemp -d); mount --bind "$1" "$kept"; mount -t tmpfs -o mode=755 tmpfs "$2"; ' +
    'mkdir -p "$1"; mount --bind "$kept" "$1"; cd "$from"; shift 2; exec "$@"'
  return ['sh', '-c', script, 'sh', checkout, closed, ...command]
}

/**
 * `command` as the user nobody, for root alone. From a checkout in a closed home it keeps one right of root, to read and search what
 * the mode of files forbids (capabilities(7), CAP_DAC_READ_SEARCH). That gives no right to write, and so none to connect to a socket.
 */
export function asNobody(command: readonly string[]): readonly string[] {
  const reading = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
  const user = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
  // The test runner puts its loader into each environment that a program is given.
  const plain = ['env', '--unset=NODE_OPTIONS']
  return [...user, ...(closedFolder() === undefined ? [] : reading), ...plain, ...command]
}
