import type { NodeLimits, NodeStatus, Quotas } from '@uaccel/accel'
import type { ServeNodeOptions } from './server.js'

/*
 * What the supervisor and the processes of devices say to each other, over the channel of child_process.fork.
 */

/** How a process reaches its device. */
export type Way =
  | { readonly kind: 'vfio'; readonly iommu: 'auto' | 'type1' | 'iommufd'; readonly allowNoIommu: boolean }
  | { readonly kind: 'vfioUser' }
  | { readonly kind: 'model'; readonly module: string }

/** What a process of a device is to do: all that it must know, as JSON. */
export interface DeviceJob {
  readonly number: number
  /** A PCI address, the path of a socket, the name of a model. */
  readonly address: string
  readonly way: Way
  /** Modules of drivers: the one whose ids fit best gets the device. */
  readonly drivers: readonly string[]
  readonly serve: Omit<ServeNodeOptions, 'onClient'>
  readonly timeouts: Partial<NodeLimits>
  readonly quotas: Partial<Quotas>
  /** How often it says that it lives. */
  readonly beatMs: number
}

/** To the process of a device. */
export type ToDevice =
  | { readonly type: 'serve'; readonly job: DeviceJob }
  /** Bring all to an end. A second one with 0 ms ends what the first one waits for. */
  | { readonly type: 'stop'; readonly drainMs: number }
  | { readonly type: 'metrics'; readonly id: number }

/** From the process of a device. Any of them is a sign of life. */
export type FromDevice =
  | {
      readonly type: 'running'
      readonly driver: string
      readonly transport: string
      readonly address: string
    }
  /** It ends because of this. */
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | { readonly type: 'beat'; readonly status: NodeStatus; readonly opens: number }
  /** Something that a person may want to know. */
  | { readonly type: 'note'; readonly text: string }
  | { readonly type: 'metrics'; readonly id: number; readonly text: string }

const forms: Readonly<Record<FromDevice['type'], Readonly<Record<string, 'string' | 'number'>>>> = {
  running: { driver: 'string', transport: 'string', address: 'string' },
  failed: { code: 'string', message: 'string' },
  beat: { status: 'string', opens: 'number' },
  note: { text: 'string' },
  metrics: { id: 'number', text: 'string' },
}

/** Whether that is something which the process of a device may say: a driver in it could have said anything. */
export function isFromDevice(message: unknown): message is FromDevice {
  if (typeof message !== 'object' || message === null) return false
  const fields = message as Readonly<Record<string, unknown>>
  const { type } = fields
  if (typeof type !== 'string' || !Object.hasOwn(forms, type)) return false
  return Object.entries(forms[type as FromDevice['type']]).every(
    ([name, form]) => typeof fields[name] === form,
  )
}

/** Environment of systemd's that is for the supervisor alone. sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3) */
export const SYSTEMD_VARIABLES = [
  'NOTIFY_SOCKET',
  'LISTEN_PID',
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
] as const
