import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { type LabOptions, runInLab } from '@uaccel/lab'
import { plainEnv, reachable } from './unprivileged.js'

/** Two devices more, which share a requester id behind a conventional bridge, and so an IOMMU group. */
export const sharedGroup = [
  ...['-device', 'pcie-pci-bridge,id=bridge,addr=0x10'],
  ...['-device', 'edu,bus=bridge,addr=1'],
  ...['-device', 'virtio-rng-pci,bus=bridge,addr=2'],
]

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
    env: plainEnv,
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
