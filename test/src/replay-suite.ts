import { Accel } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { type ReplayTransport, replaying } from '@uaccel/replay'
import { eduContract } from '@uaccel/testkit'
import fc from 'fast-check'
import type { Test } from 'tap'
import { type Alter, altered } from './altered.js'

/** The contract of edu with the same random data at each run, so that a recording of it can stand for the device in another. */
export function eduSuite<T extends Transport>(
  t: Test,
  open: (n: number) => T | Promise<T>,
  verify?: (device: T) => void,
): void {
  fc.configureGlobal({ seed: 42 })
  let opened = 0
  const options = { transfers: 2, ...(verify === undefined ? {} : { verify }) }
  eduContract(t, async () => open(opened++), options)
}

/** Some of everything that edu does. Rejects with what went wrong first. */
export async function eduSession(transport: Transport): Promise<readonly unknown[]> {
  const accel = new Accel()
  accel.on('error', () => {}) // what a release cannot do on a device that was lost
  accel.register(edu)
  try {
    await accel.add(transport)
    const dev = await accel.open(eduUapi, 'accel0')
    const data = Uint8Array.from({ length: 100 }, (_, i) => i * 7)
    return [
      await dev.call('identify', {}),
      await dev.call('liveness', { value: 0x1234_5678 }),
      await dev.call('factorial', { n: 10 }),
      await dev.call('echo', { data }),
      await dev.call('dmaRead', { offset: 10, sizeBytes: 4 }),
      await dev.call('interrupts', {}),
    ]
  } finally {
    await accel.close().catch(() => {})
  }
}

/** What {@link eduSession} answers. */
const answers = [
  { major: 1, minor: 0 },
  { inverse: ~0x1234_5678 >>> 0 },
  { value: 3628800 },
  { data: Uint8Array.from({ length: 100 }, (_, i) => i * 7) },
  { data: Uint8Array.from({ length: 4 }, (_, i) => (10 + i) * 7) },
  { type: 'msi', count: 4 },
]

/** Changes of one access each, and what is said of them: expected, and came. */
const changes: readonly (readonly [string, Alter, string, string])[] = [
  [
    'another bit',
    (offset, value) => ({ offset, value: offset === 0x20 ? value ^ 0xc0 : value }),
    'write of STATUS (BAR 0 + 0x20) = 0x80 (computing=false irqOnDone=true)',
    'write of STATUS (BAR 0 + 0x20) = 0x40 (computing=false irqOnDone=false)',
  ],
  [
    'another register',
    (offset, value) => ({ offset: offset === 0x64 ? 0x60 : offset, value }),
    'write of IRQ_ACK (BAR 0 + 0x64) = 0x1',
    'write of IRQ_RAISE (BAR 0 + 0x60) = 0x1',
  ],
  [
    'a register that has no name',
    (offset, value) => ({ offset: offset === 0x08 ? 0x0c : offset, value }),
    'write of FACTORIAL (BAR 0 + 0x8) = 0xa',
    'write of BAR 0 + 0xc (32 bits) = 0xa',
  ],
]

/** What can be seen of a recording of {@link eduSession}: the same driver passes on it, one that was changed is told what differs. */
export function eduReplays(t: Test, file: string): void {
  for (const strict of [false, true]) {
    t.test(`the session passes on its recording${strict ? ', in the very order' : ''}`, async (t) => {
      const device: ReplayTransport = replaying(file, { strict })
      t.same(await eduSession(device), answers)
      device.assertComplete()
      t.same(device.notes, [])
      const { replayed, total } = device.counts
      t.ok(total > 50)
      t.ok(replayed > 0.9 * total)
    })
  }

  for (const [what, alter, expected, came] of changes) {
    t.test(`${what} is reported by its name`, async (t) => {
      const device = replaying(file)
      const error = await eduSession(altered(device, alter)).then(
        () => undefined,
        (error: unknown) => error as Error,
      )
      t.match(device.mismatch, { code: 'ERR_ACCEL_BAD_ACCESS', details: { expected, came } })
      t.match(
        device.mismatch?.message,
        /\.rec, at step \d+ of \d+, \d+\.\d{3} s into the session: expected .*; came /,
      )
      const chain = [error, error?.cause, (error?.cause as Error)?.cause].map((one) => `${one}`).join(' ')
      t.ok(chain.includes(`expected ${expected}; came ${came}`), 'the command that fails with it says so')
      t.throws(() => device.assertComplete(), { code: 'ERR_ACCEL_BAD_ACCESS', details: { expected, came } })
    })
  }

  t.test('what did not come is told', async (t) => {
    const device = replaying(file)
    const accel = new Accel()
    accel.register(edu)
    await accel.add(device)
    const dev = await accel.open(eduUapi, 'accel0')
    await dev.call('identify', {})
    await dev.call('liveness', { value: 0x1234_5678 })
    t.throws(() => device.assertComplete(), {
      code: 'ERR_ACCEL_BAD_ACCESS',
      message:
        /steps of .* were not replayed:\n {2}step \d+ of \d+, .* s into the session: write of FACTORIAL \(BAR 0 \+ 0x8\) = 0xa\n/,
    })
    await accel.close().catch(() => {})
  })
}
