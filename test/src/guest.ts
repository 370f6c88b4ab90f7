import { statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { type LabOptions, runInLab } from '@uaccel/lab'

/** Two devices more, which share a requester id behind a conventional bridge, and so an IOMMU group. */
export const sharedGroup = [
  ...['-device', 'pcie-pci-bridge,id=bridge,addr=0x10'],
  ...['-device', 'edu,bus=bridge,addr=1'],
  ...['-device', 'virtio-rng-pci,bus=bridge,addr=2'],
]

/** This process's environment without what the test runner put there: its loader writes files, and the guest's are read-only. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('_TAPJS_')),
)

const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** The first folder above this checkout that other users may not enter, such as the home of root. */
function closedFolder(): string | undefined {
  const names = checkout.split('/')
  const above = names.slice(1, -1).map((_, i) => names.slice(0, i + 2).join('/'))
  return above.find((folder) => (statSync(folder).mode & 0o5) !== 0o5)
}

/** Has a guest see the checkout, and nothing else, in that folder: its programs also run as users without rights. */
function reachable(command: readonly string[]): readonly string[] {
  const closed = closedFolder()
  if (closed === undefined || process.execPath.startsWith(`${closed}/`)) return command
  const script =
    'set -e; from=$PWD; kept=$(mktemp -d); mount --bind "$1" "$kept"; mount -t tmpfs -o mode=755 tmpfs "$2"; ' +
    'mkdir -p "$1"; mount --bind "$kept" "$1"; cd "$from"; shift 2; exec "$@"'
  return ['sh', '-c', script, 'sh', checkout, closed, ...command]
}

/** What a program in the lab printed and how it ended. */
export interface GuestRun {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
  readonly trace: string | undefined
}

/** Runs `NAME.guest.js` of this folder in the lab, beside one edu device at 0000:00:05.0. `onCue` gets the lines of its standard error. */
export async function runGuest(
  name: string,
  {
    nodeArgs = [],
    args = [],
    onCue,
    ...options
  }: Partial<LabOptions> & { nodeArgs?: string[]; args?: string[]; onCue?: (line: string) => void } = {},
): Promise<GuestRun> {
  const script = fileURLToPath(new URL(`./${name}.guest.js`, import.meta.url))
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const printed = Promise.all([text(stdout), text(stderr)])
  if (onCue) createInterface(stderr).on('line', onCue)
  const { exitCode, trace } = await runInLab({
    command: reachable([process.execPath, ...nodeArgs, script, ...args]),
    devices: ['edu'],
    limitMs: 500_000,
    env,
    ...options,
    stdout,
    stderr,
  }).finally(() => {
    stdout.end()
    stderr.end()
  })
  const [out, errors] = await printed
  return { exitCode, stdout: out, stderr: errors, trace }
}
