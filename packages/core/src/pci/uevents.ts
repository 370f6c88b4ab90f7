import { readFileSync } from 'node:fs'
import { abi, type SystemCalls, sys, watch } from '@uaccel/sys'
import { isAccelError } from '@uaccel/uapi'

/** What the kernel tells of a device (kobject_actions in lib/kobject_uevent.c). */
export const ueventActions = [
  'add',
  'remove',
  'change',
  'move',
  'online',
  'offline',
  'bind',
  'unbind',
] as const
export type UeventAction = (typeof ueventActions)[number]

/** A message of the kernel on a device that came, went or changed (Documentation/ABI/testing/sysfs-uevent). */
export interface Uevent {
  readonly action: UeventAction
  /** `pci`, `uio` and so on. */
  readonly subsystem: string
  /** Path of the device below /sys. */
  readonly devpath: string
  /** Its last part: the BDF of a PCI device, `uio0`. */
  readonly name: string
  /** Grows with every message; /sys/kernel/uevent_seqnum is that of the latest. */
  readonly seqnum: number
  /** Somebody asked for the message by writing to the device's `uevent` file: nothing may have happened. */
  readonly synthetic: boolean
  /** All that the message says: `DRIVER`, `PCI_ID`, `DEVNAME`... */
  readonly properties: ReadonlyMap<string, string>
}

/** Messages came faster than they were read, and the kernel dropped some: look at what is there. */
export interface Overrun {
  readonly action: 'overrun'
}

export interface UeventOptions {
  /** Only devices of these; all unless told. */
  readonly subsystems?: readonly string[]
  /** Whether waiting for messages keeps the process alive; false unless told. */
  readonly ref?: boolean
  /** Room for messages that wait, in bytes: a bus that is scanned sends hundreds in one go. Default 1 MiB. */
  readonly receiveBytes?: number
  /** The kernel; for tests. */
  readonly calls?: SystemCalls
}

/** UEVENT_BUFFER_SIZE, 2048 bytes of properties (include/linux/kobject.h), and a header of action and path. */
const MESSAGE_BYTES = 2048 + 4096 + 16
/** Messages that are handled in one turn of the event loop. */
const TURN_MESSAGES = 64

/**
 * Reads one message: `ACTION@DEVPATH`, then `KEY=VALUE`, each ended by a NUL (kobject_uevent_env in lib/kobject_uevent.c).
 * Answers `undefined` for anything else, such as what udev sends to its own listeners.
 */
export function parseUevent(message: Uint8Array): Uevent | undefined {
  if (message.at(-1) !== 0) return undefined // cut off
  const [header, ...lines] = Buffer.from(message.subarray(0, -1)).toString('utf8').split('\0')
  const properties = new Map<string, string>()
  for (const line of lines) {
    const equals = line.indexOf('=')
    if (equals < 1) return undefined
    properties.set(line.slice(0, equals), line.slice(equals + 1))
  }
  const action = ueventActions.find((known) => known === properties.get('ACTION'))
  const devpath = properties.get('DEVPATH')
  const subsystem = properties.get('SUBSYSTEM')
  const seqnum = properties.get('SEQNUM') ?? ''
  if (action === undefined || devpath === undefined || !subsystem) return undefined
  if (header !== `${action}@${devpath}` || !devpath.startsWith('/') || !/^\d{1,15}$/.test(seqnum))
    return undefined
  return {
    action,
    subsystem,
    devpath,
    name: devpath.slice(devpath.lastIndexOf('/') + 1),
    seqnum: Number(seqnum),
    synthetic: properties.has('SYNTH_UUID'),
    properties,
  }
}

/** The number of the latest message; 0 where the kernel does not tell. What is seen later has a greater one. */
export function latestSeqnum(): number {
  try {
    return Number(readFileSync('/sys/kernel/uevent_seqnum', 'latin1'))
  } catch {
    return 0
  }
}

/**
 * Calls `handler` for each device that comes, goes or changes, in this thread, in the kernel's order, until the watch is
 * closed; with `{ action: 'overrun' }` where messages were lost. Needs no rights. Only what the kernel itself sent is
 * believed. What the handler throws reaches `uncaughtException`, and the messages after it are still handled.
 *
 * @throws ERR_ACCEL_SYSTEM, ERR_ACCEL_PERMISSION the kernel gives no such socket
 */
export function watchUevents(
  handler: (event: Uevent | Overrun) => void,
  { subsystems, ref = false, receiveBytes = 1 << 20, calls = sys }: UeventOptions = {},
): Disposable & { close(): void } {
  const fd = calls.netlink(abi.NETLINK_KOBJECT_UEVENT, abi.UEVENT_GROUP_KERNEL, receiveBytes)
  const buffer = Buffer.alloc(MESSAGE_BYTES)
  let closed = false
  const receive = (): Uevent | Overrun | 'other' | undefined => {
    try {
      const message = calls.receiveNetlink(fd, buffer)
      if (message === undefined) return undefined
      // Whoever has CAP_NET_ADMIN can send to the group, but not in the kernel's name.
      if (message.portId !== 0 || message.truncated) return 'other'
      const event = parseUevent(buffer.subarray(0, message.bytes))
      if (event === undefined || subsystems?.includes(event.subsystem) === false) return 'other'
      return event
    } catch (error) {
      if (isAccelError(error) && error.errno === 'ENOBUFS') return { action: 'overrun' }
      throw error
    }
  }
  const watching = watch(
    fd,
    () => {
      // What is left makes the socket readable again.
      for (let i = 0; i < TURN_MESSAGES && !closed; i++) {
        const event = receive()
        if (event === undefined) return
        if (event !== 'other') handler(event)
      }
    },
    { ref },
    calls,
  )
  const close = () => {
    if (closed) return
    closed = true
    watching.close()
    calls.close(fd)
  }
  return { close, [Symbol.dispose]: close }
}
