import {
  defineModel,
  type ModelBehaviour,
  type ModelContext,
  type ModelDefinition,
  registerBank,
} from '@uaccel/model'
import { DeviceQueue, type QueueHost } from './queue.js'

/** A request as a device finds it in a queue. */
export interface VirtioRequest {
  readonly queue: number
  /** What the driver wrote: all segments that the device reads, one behind the other. */
  readonly input: Uint8Array
  /** Bytes that the device may write. */
  readonly roomBytes: number
}

/** An answer whose length is not that of what is written. */
export interface VirtioAnswer {
  readonly bytes: Uint8Array
  /** Said in the used ring. */
  readonly usedBytes: number
}

/** The part of a virtio device that depends on its type. */
export interface VirtioBehaviour {
  /** What the device writes in answer, from the first byte that it may write on. It runs when the device gets to it. */
  serve(request: VirtioRequest): Uint8Array | VirtioAnswer
  /** The driver has reset the device. */
  reset?(): void
}

/** A type of virtio device. */
export interface VirtioKind<Options> {
  readonly name: string
  /** Of the type (virtio 1.2, 5). */
  readonly deviceId: number
  readonly classCode: number
  /** Queue sizes, by number. */
  readonly queues: readonly number[]
  /** Features of the type, as a set of bits. */
  readonly features?: bigint
  /** The configuration that depends on the type, at most 256 bytes. */
  config(options: Options): Uint8Array
  create(options: Options, context: ModelContext): VirtioBehaviour
}

/** What every virtio model takes. */
export interface VirtioModelOptions {
  /** Offered beside VIRTIO_F_VERSION_1. Default: VIRTIO_F_ACCESS_PLATFORM, indirect descriptors and event index. */
  readonly features?: bigint
  /** Nanoseconds from a notification to the answer. Default 1,000. */
  readonly serveNs?: number
  /** Told of each notification, with the queue's number. */
  readonly onNotify?: (queue: number) => void
  /** Gets what the device can do of its own accord. */
  readonly onCreate?: (device: VirtioControls) => void
  /** What a read of the common structure at that offset gives, in the place of `value`: for a device that lies. */
  readonly lie?: (offset: number, value: number) => number
  /** What the device writes into the used ring, in the place of what is right. */
  readonly lieUsed?: (used: UsedEntry) => UsedEntry
}

/** What a device writes when it has used a chain. */
export interface UsedEntry {
  readonly queue: number
  readonly head: number
  readonly written: number
  /** Of the ring, after this entry. */
  readonly index: number
}

/** What a device does unasked. */
export interface VirtioControls {
  /** Says that it does not work until it is reset (2.1.2). */
  needReset(): void
  /** Changes its configuration, from that byte on. */
  configure(offset: number, bytes: Uint8Array): void
}

// What the specification says (virtio 1.2): 2.1, 2.2, 4.1.4, 6.
const VENDOR_ID = 0x1af4
const FIRST_DEVICE_ID = 0x1040
const INDIRECT = 1n << 28n
const EVENT_IDX = 1n << 29n
const VERSION_1 = 1n << 32n
const ACCESS_PLATFORM = 1n << 33n
const [ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED] = [1, 2, 4, 8, 64, 128]
const NOBODY = 0xffff
const ISR_QUEUE = 1
const ISR_CONFIGURATION = 2

/** Places of this model's own choice: everything in BAR 4 but the MSI-X structures. */
const BAR = 4
const MSIX_BAR = 1
const AT = { common: 0x0000, isr: 0x1000, device: 0x2000, notify: 0x3000 }
const NOTIFY_STRIDE = 4

/** A capability from its `cfg_type` on: BAR, id, two bytes of padding, offset, length, and what a kind adds. */
function structure(type: number, offset: number, length: number, ...more: number[]): Uint8Array {
  const bytes = new Uint8Array(13 + 4 * more.length)
  const view = new DataView(bytes.buffer)
  bytes[0] = type
  bytes[1] = BAR
  view.setUint32(5, offset, true)
  view.setUint32(9, length, true)
  for (const [i, word] of more.entries()) view.setUint32(13 + 4 * i, word, true)
  return bytes
}

/** Makes a model of a kind of virtio device, strict about all that virtio 1.2 asks of a driver. */
export function virtioModel<Options = object>(
  kind: VirtioKind<Options>,
): ModelDefinition<Options & VirtioModelOptions> {
  return defineModel<Options & VirtioModelOptions>({
    identity: {
      name: kind.name,
      vendor: VENDOR_ID,
      device: FIRST_DEVICE_ID + kind.deviceId,
      revision: 1,
      classCode: kind.classCode,
      subsystemVendor: VENDOR_ID,
      subsystem: 0x1100,
    },
    bars: [
      { index: MSIX_BAR, sizeBytes: 0x1000, kind: 'mem32' },
      { index: BAR, sizeBytes: 0x4000, kind: 'mem64', prefetchable: true },
    ],
    interrupts: {
      intx: true,
      msix: { vectors: kind.queues.length + 1, bar: MSIX_BAR, tableOffset: 0, pbaOffset: 0x800 },
    },
    capabilities: {
      vendor: [
        structure(1, AT.common, 56),
        structure(2, AT.notify, NOTIFY_STRIDE * kind.queues.length, NOTIFY_STRIDE),
        structure(3, AT.isr, 1),
        structure(4, AT.device, 256),
      ],
    },
    create: (context, options) => createVirtio(kind, context, options),
  })
}

function createVirtio<Options>(
  kind: VirtioKind<Options>,
  context: ModelContext,
  options: Options & VirtioModelOptions,
): ModelBehaviour {
  const { serveNs = 1000, features = ACCESS_PLATFORM | INDIRECT | EVENT_IDX, onNotify } = options
  const { lie = (_offset, value) => value, lieUsed = (used) => used } = options
  const offered = VERSION_1 | features | (kind.features ?? 0n)
  const configuration = kind.config(options)
  const behaviour = kind.create(options, context)
  let accepted = 0n
  let pendingCauses = 0

  const host: QueueHost = {
    context,
    serveNs,
    has: (feature) => (accepted & feature) !== 0n,
    serve: (request) => behaviour.serve(request),
    used: lieUsed,
    interrupt(vector) {
      if (context.irqMode === 'msix') {
        if (vector !== NOBODY) context.raise(vector)
      } else raiseLine(ISR_QUEUE)
    },
    broken(why) {
      context.violation(why)
      needReset()
    },
  }
  const queues = kind.queues.map((entries, index) => new DeviceQueue(index, entries, host))

  const common = registerBank([
    { name: 'deviceFeatureSelect', offset: 0x00, width: 4, access: 'rw' },
    { name: 'deviceFeature', offset: 0x04, width: 4, access: 'ro', read: offeredHalf },
    { name: 'driverFeatureSelect', offset: 0x08, width: 4, access: 'rw' },
    { name: 'driverFeature', offset: 0x0c, width: 4, access: 'rw', write: accept },
    { name: 'configMsixVector', offset: 0x10, width: 2, access: 'rw', reset: NOBODY },
    { name: 'numQueues', offset: 0x12, width: 2, access: 'ro', reset: kind.queues.length },
    { name: 'deviceStatus', offset: 0x14, width: 1, access: 'rw', write: setStatus },
    { name: 'configGeneration', offset: 0x15, width: 1, access: 'ro' },
    { name: 'queueSelect', offset: 0x16, width: 2, access: 'rw' },
    ...queueRegisters(),
  ])

  function queueRegisters() {
    const selected = () => queues[common.get('queueSelect')]
    const word = (name: 'size' | 'vector', offset: number) =>
      ({
        name,
        offset,
        width: 2,
        access: 'rw',
        read: (): number => selected()?.[name] ?? 0,
        write: (value: number): void => selected()?.set(name, value),
      }) as const
    const half = (name: 'descriptors' | 'driver' | 'device', high: boolean, offset: number) =>
      ({
        name: `${name}${high ? 'High' : 'Low'}`,
        offset,
        width: 4,
        access: 'rw',
        read: (): number => Number(((selected()?.[name] ?? 0n) >> (high ? 32n : 0n)) & 0xffff_ffffn),
        write: (value: number): void => selected()?.setHalf(name, high, value),
      }) as const
    return [
      word('size', 0x18),
      word('vector', 0x1a),
      {
        name: 'queueEnable',
        offset: 0x1c,
        width: 2,
        access: 'rw',
        read: (): number => (selected()?.enabled ? 1 : 0),
        write(value: number): void {
          if (value !== 1)
            context.violation(`${value} was written to queue_enable; only 1 may be (4.1.4.3.2).`)
          else if ((common.get('deviceStatus') & FEATURES_OK) === 0)
            context.violation('a queue was enabled before FEATURES_OK (3.1.1).')
          else selected()?.enable()
        },
      },
      {
        name: 'queueNotifyOff',
        offset: 0x1e,
        width: 2,
        access: 'ro',
        read: (): number => common.get('queueSelect'),
      },
      half('descriptors', false, 0x20),
      half('descriptors', true, 0x24),
      half('driver', false, 0x28),
      half('driver', true, 0x2c),
      half('device', false, 0x30),
      half('device', true, 0x34),
    ] as const
  }

  function offeredHalf(): number {
    const select = common.get('deviceFeatureSelect')
    return select > 1 ? 0 : Number((offered >> BigInt(32 * select)) & 0xffff_ffffn)
  }

  function accept(value: number): void {
    const select = common.get('driverFeatureSelect')
    if ((common.get('deviceStatus') & FEATURES_OK) !== 0) {
      context.violation('features were written after FEATURES_OK (3.1.1).')
    } else if (select <= 1) {
      const shift = BigInt(32 * select)
      accepted = (accepted & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift)
    }
  }

  function setStatus(value: number): void {
    if (value === 0) {
      resetDevice()
      return
    }
    const before = common.get('deviceStatus')
    if ((before & ~value & ~NEEDS_RESET) !== 0)
      context.violation('a bit of the device status was cleared (2.1.1).')
    let now = value | (before & NEEDS_RESET)
    const added = now & ~before
    const steps = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK] as const
    for (const [i, bit] of steps.entries()) {
      if ((added & bit) === 0 || (now & FAILED) !== 0) continue
      if (steps.slice(0, i).some((earlier) => (before & earlier) === 0))
        context.violation(`device status ${value} came before the steps that precede it (3.1.1).`)
    }
    if ((added & FEATURES_OK) !== 0 && ((accepted & ~offered) !== 0n || (accepted & VERSION_1) === 0n))
      now &= ~FEATURES_OK
    common.set('deviceStatus', now)
    // What was made available before is looked at now (3.1.1).
    if ((added & DRIVER_OK) !== 0) for (const queue of queues) queue.notified()
  }

  function resetDevice(): void {
    accepted = 0n
    pendingCauses = 0
    context.setIntx(false)
    common.reset()
    for (const queue of queues) queue.reset()
    behaviour.reset?.()
  }

  /** 2.1.2: the bit, and word of it where the driver listens already. */
  function needReset(): void {
    common.set('deviceStatus', common.get('deviceStatus') | NEEDS_RESET)
    for (const queue of queues) queue.stop()
    configChanged()
  }

  function configChanged(): void {
    if ((common.get('deviceStatus') & DRIVER_OK) === 0) return
    const vector = common.get('configMsixVector')
    if (context.irqMode !== 'msix') raiseLine(ISR_CONFIGURATION)
    else if (vector !== NOBODY) context.raise(vector)
  }

  function raiseLine(cause: number): void {
    pendingCauses |= cause
    context.setIntx(true)
  }

  function notify(index: number, value: number): boolean {
    const queue = queues[index]
    if (queue === undefined) return false
    onNotify?.(value)
    if (value !== index)
      context.violation(`queue ${value} was notified at the place of queue ${index} (4.1.5.2).`)
    else if ((common.get('deviceStatus') & DRIVER_OK) === 0)
      context.violation(`queue ${index} was notified before DRIVER_OK (3.1.1).`)
    else if (!queue.enabled) context.violation(`queue ${index} was notified and is not enabled.`)
    else queue.notified()
    return true
  }

  options.onCreate?.({
    needReset,
    configure(offset, bytes) {
      configuration.set(bytes, offset)
      common.set('configGeneration', (common.get('configGeneration') + 1) & 0xff)
      configChanged()
    },
  })

  return {
    read(bar, offset, width) {
      if (bar !== BAR) return undefined
      if (offset < 56) {
        const value = common.read(offset, width)
        return typeof value === 'number' ? lie(offset, value) : value
      }
      if (offset === AT.isr && width === 1) {
        const causes = pendingCauses & (ISR_QUEUE | ISR_CONFIGURATION)
        pendingCauses = 0
        context.setIntx(false)
        return causes
      }
      const at = offset - AT.device
      if (at < 0 || at + width > configuration.length || width === 8 || at % width !== 0) return undefined
      return configuration.subarray(at, at + width).reduceRight((value, byte) => value * 256 + byte, 0)
    },
    write(bar, offset, width, value) {
      if (bar !== BAR) return false
      if (offset < 56) return common.write(offset, width, value)
      const at = offset - AT.notify
      return width === 2 && at >= 0 && at % NOTIFY_STRIDE === 0 && notify(at / NOTIFY_STRIDE, Number(value))
    },
    describe: (_bar, offset) =>
      offset < 56 ? common.describe(offset) : 'the structures of a virtio device (virtio 1.2, 4.1.4)',
    reset: resetDevice,
  }
}
