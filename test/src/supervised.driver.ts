import { readFileSync } from 'node:fs'
import { accelDriver } from '@uaccel/accel'
import { eduModel } from '@uaccel/driver-edu/model'
import { cmd, u32, uapi } from '@uaccel/uapi'

/*
 * A driver that does what a driver should not, when it is told to; and a model for it. `UACCEL_MISFIT` names a file: what it says is
 * why the probe fails.
 */

export const misfitUapi = uapi({
  name: 'misfit',
  version: 1,
  commands: {
    pid: cmd(0x40, { out: { pid: u32 }, concurrent: true }),
    /** Keeps the event loop of its process. */
    block: cmd(0x41, { in: { ms: u32 } }),
    /** Ends with an exception that nobody catches. */
    crash: cmd(0x42),
    /** Ends well, after a while. */
    work: cmd(0x43, { in: { ms: u32 }, out: { ms: u32 }, concurrent: true }),
    /** Says to the supervisor what no process of a device says. */
    babble: cmd(0x44),
  },
})

export const misfitModel = {
  ...eduModel,
  identity: { ...eduModel.identity, name: 'misfit', vendor: 0x1af4, device: 0xfff0 },
}

export default accelDriver({
  name: 'misfit',
  uapi: misfitUapi,
  ids: [{ bus: 'pci', vendor: 0x1af4, device: 0xfff0 }],
  async probe() {
    const why = trouble()
    if (why !== '') throw new Error(why)
    return {
      commands: {
        pid: () => ({ pid: process.pid }),
        block({ ms }): undefined {
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
        },
        crash(): undefined {
          process.nextTick(() => {
            throw new Error('a bug in a driver')
          })
        },
        babble(): undefined {
          for (const nonsense of [
            null,
            7,
            [],
            { type: 'toString' },
            { type: 'running', driver: {}, transport: 'loopback', address: 'misfit' },
            { type: 'failed', code: 'ERR_ACCEL_IO', message: { toString: null } },
            { type: 'beat', status: 'operational' },
            { type: 'metrics', id: 1, text: null },
          ])
            process.send!(nonsense)
        },
        async work({ ms }) {
          await new Promise((resolve) => setTimeout(resolve, ms))
          return { ms }
        },
      },
    }
  },
})

function trouble(): string {
  try {
    return readFileSync(process.env.UACCEL_MISFIT ?? '', 'utf8').trim()
  } catch {
    return ''
  }
}
