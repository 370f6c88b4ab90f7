import type { Device } from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { NpuBar, QueueControl } from './queue-control.js'

/** Why the controller has to be recovered; `undefined` where it runs. */
export function fatalError(bar: NpuBar): string | undefined {
  if (!bar.CSTS.get().fatal) return undefined
  const { cause, queue } = bar.FATAL.get()
  return `fatal error ${cause}, queue ${queue}`
}

/** What stopped a queue, or the whole controller; `undefined` where nothing is wrong. */
export function diagnose(dev: Device, bar: NpuBar, queue: QueueControl): AccelError | undefined {
  const status = bar.CSTS.read()
  if (status === 0xffff_ffff) {
    dev.checkPresent()
    return accelError('ERR_ACCEL_IO', 'CSTS of the NPU reads all ones: it has to be recovered')
  }
  if (bar.CSTS.extract(status, 'fatal')) {
    const { cause, queue: at } = bar.FATAL.get()
    return accelError(
      'ERR_ACCEL_IO',
      `The NPU reports a fatal error, ${cause}, queue ${at}: it has to be recovered`,
      {
        details: { cause, queue: at },
      },
    )
  }
  const { state, cause } = queue.state
  if (state !== 'error') return undefined
  return accelError(
    'ERR_ACCEL_IO',
    `NPU queue ${queue.index} is in error, ${cause}: it has to be recovered`,
    { details: { cause } },
  )
}
