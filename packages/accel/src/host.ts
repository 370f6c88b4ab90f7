import type { ResetKind } from '@uaccel/core'
import type { AccelError } from '@uaccel/uapi'
import type { AccelDevice } from './device.js'
import type { DeviceEvent } from './events.js'
import type { Quotas } from './quota.js'

/** Limits of what a driver may take, in milliseconds. */
export interface NodeLimits {
  /** For `probe`. 30 seconds unless told. */
  readonly probeMs: number
  /** For each of `recover`, `beforeReset` and `afterReset`. 10 seconds unless told. */
  readonly recoverMs: number
  /** For a job, from when its driver got it. 60 seconds unless told. */
  readonly jobMs: number
  /** For a handler to end once its signal is aborted. 2 seconds unless told. */
  readonly settleMs: number
  /** For a device to be removed: its commands end, it is brought to rest, everything is freed. 15 seconds unless told. */
  readonly removeMs: number
  /** The same where the administrator waits for it. 1 second unless told. */
  readonly requestMs: number
  /** For the driver to show or store an attribute, or to answer a query. 1 second unless told. */
  readonly attributeMs: number
}

/** Why a node goes: `removed` by its owner, `wanted` back by the administrator, or its device is `gone`. */
export type Departure = 'removed' | 'wanted' | 'gone'

/** How a node is reset. */
export interface NodeResetOptions {
  /** Default: `function`, where the device has that, else `hot`. */
  readonly kind?: ResetKind
  /** For those whose commands it ends. */
  readonly reason?: string
}

/** What a node needs from the subsystem that it belongs to. */
export interface NodeHost {
  readonly limits: NodeLimits
  readonly quotas: Quotas
  /** Where the node is traced from its beginning on, and where on demand. */
  readonly traceFile: string | undefined
  readonly traceFolder: string | undefined
  /** Makes the device that `probe` gets; anew after each reset. `publish` is for what its driver tells those who have it open. */
  bringUp(publish: (event: DeviceEvent) => void): AccelDevice
  /** Something went wrong that no caller is told of. */
  report(error: AccelError): void
  /** The device vanished or does not work any more: told first, before anything is released. */
  lost(reason: AccelError): void
  /** The device was reset and works again. */
  reset(reason: AccelError): void
  /** All that the node held is released. */
  gone(): Promise<void>
}
