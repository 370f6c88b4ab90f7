import { type Bar, type Device, type IrqVectors, type Mmio, poll } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { VirtioConfig } from './config.js'
import { FEATURE, featureSet, hasFeature } from './features.js'
import { commonRegisters, isrRegisters, NO_VECTOR, STATUS } from './registers.js'
import { SplitQueue, splitLayout } from './split-queue.js'
import { findStructures, type Structure } from './structures.js'

/** How long a device may take to become idle when it is reset (2.4.1 names no limit). */
const RESET_MS = 1_000

/** Which features the driver of a type of device knows, by bit number (5). Those of virtio itself are this layer's. */
export interface VirtioFeatures {
  /** Without which it cannot work. */
  readonly required?: readonly number[]
  /** Taken where the device offers them. */
  readonly wanted?: readonly number[]
}

/** Kinds of interrupts that virtio has on PCI: there is no MSI (4.1.5.1). */
export type VirtioIrq = 'msix' | 'intx'

/** A queue as its driver wants it. */
export interface QueueRequest {
  /** Its number, which the type of device gives a meaning. */
  readonly index: number
  /** The most entries that are of use: a power of two. It gets fewer where the device has fewer. */
  readonly entries: number
  /** The most segments of a chain. The queue says how many it takes: fewer where it has fewer entries (2.7.5.3.1). */
  readonly maxSegments: number
  /** Without a queue that takes so many segments in a chain the device is of no use. Default 1. */
  readonly minSegments?: number
  /** Told, in the event loop, that the device may have used chains: take them with `next()` until there is none. */
  readonly used: () => void
}

type Common = Bar<ReturnType<typeof commonRegisters>>
type Isr = Bar<ReturnType<typeof isrRegisters>>

interface Opened {
  readonly request: QueueRequest
  readonly queue: SplitQueue
  readonly memory: DmaRegion
}

/** What the BARs of a device were mapped to. */
interface Parts {
  readonly common: Common
  readonly isr: Isr
  readonly notify: Mmio
  /** Of the notify structure: within `notify`, and its size. */
  readonly notifyBase: number
  readonly notifyBytes: number
  readonly multiplier: number
}

/**
 * A virtio device of version 1 on PCI (virtio 1.2, 3.1 and 4.1), of whatever type:
 *
 *     const virtio = await VirtioDevice.negotiate(dev, { wanted: [...] })
 *     const size = virtio.config.u32(0)
 *     const [requests] = await virtio.openQueues([{ index: 0, entries: 256, maxSegments: 4, used: () => drain() }])
 *     virtio.start()
 *
 * All that it takes comes from its `Device` and is released with it, after the device was reset.
 */
export class VirtioDevice {
  readonly config: VirtioConfig
  readonly #dev: Device
  readonly #parts: Parts
  readonly #known: VirtioFeatures
  #features = 0n
  #irqs: IrqVectors | undefined
  #queues: readonly Opened[] = []
  #configChanged: () => void = () => {}

  private constructor(dev: Device, parts: Parts, config: VirtioConfig, known: VirtioFeatures) {
    this.#dev = dev
    this.#parts = parts
    this.config = config
    this.#known = known
  }

  /**
   * Resets the device and agrees with it on the features. Errors: `ERR_ACCEL_UNSUPPORTED` where it is of no use: it has no structures of
   * version 1, lacks a feature, or is behind an IOMMU that it goes around.
   */
  static async negotiate(dev: Device, known: VirtioFeatures = {}): Promise<VirtioDevice> {
    await dev.enable({ busMaster: true })
    const structures = findStructures(dev.config.snapshot(), dev.regions)
    const common = await dev.mapBar(structures.common.bar, commonRegisters(structures.common.offset))
    const isr = await dev.mapBar(structures.isr.bar, isrRegisters(structures.isr.offset))
    const notify = await mapStructure(dev, structures.notify)
    const own = structures.device && (await mapStructure(dev, structures.device))
    const config = new VirtioConfig({
      memory: own?.memory,
      offset: own?.offset ?? 0,
      sizeBytes: structures.device?.sizeBytes ?? 0,
      generation: () => common.CONFIG_GENERATION.read(),
    })
    void dev.dma // before what follows, so that the device is at rest before its memory goes
    const parts = {
      common,
      isr,
      notify: notify.memory,
      notifyBase: notify.offset,
      notifyBytes: structures.notify.sizeBytes,
      multiplier: structures.notify.multiplier,
    }
    const virtio = new VirtioDevice(dev, parts, config, known)
    dev.defer(() => virtio.reset())
    await virtio.#agree()
    return virtio
  }

  /** What was agreed on. */
  get features(): bigint {
    return this.#features
  }

  /** Whether a feature was agreed on, by its bit number. */
  has(bit: number): boolean {
    return hasFeature(this.#features, bit)
  }

  /** The device says that it does not work until it is reset (2.1.2); a device that is gone says so, too. */
  get needsReset(): boolean {
    return (this.#parts.common.DEVICE_STATUS.read() & STATUS.needsReset) !== 0
  }

  /** The interrupts in use; undefined before {@link openQueues}, and where all queues are polled. */
  get irqs(): IrqVectors | undefined {
    return this.#irqs
  }

  /** Has `listener` called when the device changed its configuration, in the place of an earlier one, where an interrupt tells of it. */
  onConfigChange(listener: () => void): void {
    this.#configChanged = listener
  }

  /**
   * Takes memory and vectors for all queues of the driver, and tells the device of them. Each has an MSI-X vector of its own where
   * there are enough; `types` are the kinds of interrupts to choose from, the first that is there: none for queues that are all polled.
   * Errors: `ERR_ACCEL_UNSUPPORTED` without such a queue, `ERR_ACCEL_IO` for what the device says and cannot be.
   */
  async openQueues(
    requests: readonly QueueRequest[],
    types: readonly VirtioIrq[] = ['msix', 'intx'],
  ): Promise<SplitQueue[]> {
    if (types.length > 0)
      this.#irqs = await this.#dev.allocIrqVectors({ min: 1, max: requests.length + 1, types })
    this.#queues = requests.map((request) => this.#open(request))
    if (this.#irqs !== undefined) this.#handleInterrupts(this.#irqs)
    else for (const { queue } of this.#queues) queue.interrupts = false
    for (const opened of this.#queues) this.#enable(opened)
    return this.#queues.map(({ queue }) => queue)
  }

  /** The device may use its queues from now on (DRIVER_OK). */
  start(): void {
    this.#addStatus(STATUS.driverOk)
  }

  /**
   * Stops the device: it touches no memory of ours any more, and has forgotten all that was agreed on. `ERR_ACCEL_TIMEOUT`. Chains under
   * way are the driver's to end.
   */
  async reset(): Promise<void> {
    const { DEVICE_STATUS } = this.#parts.common
    DEVICE_STATUS.write(0)
    const what = 'status 0 of a virtio device after its reset'
    await poll(
      () => DEVICE_STATUS.read(),
      (status) => status === 0,
      { timeoutMs: RESET_MS, what },
    )
  }

  /**
   * After {@link reset}: agrees on the same features again, and starts with empty queues. `ERR_ACCEL_IO` where the device is another one
   * now.
   */
  async restart(): Promise<void> {
    const before = this.#features
    await this.#agree()
    const now = this.#features
    if (now !== before) {
      this.#features = before // which the queues were laid out for, at the next try too
      throw accelError(
        'ERR_ACCEL_IO',
        `The virtio device offers other features after its reset: 0x${now.toString(16)}, not 0x${before.toString(16)}`,
      )
    }
    for (const opened of this.#queues) {
      opened.queue.reset()
      this.#enable(opened)
    }
    this.start()
  }

  /** 3.1.1, steps 1 to 6. */
  async #agree(): Promise<void> {
    await this.reset()
    this.#addStatus(STATUS.acknowledge)
    this.#addStatus(STATUS.driver)
    const offered = this.#offered()
    this.#features = this.#choose(offered)
    const { common } = this.#parts
    for (const half of [0, 1]) {
      common.DRIVER_FEATURE_SELECT.write(half)
      common.DRIVER_FEATURE.write(Number((this.#features >> BigInt(32 * half)) & 0xffff_ffffn))
    }
    this.#addStatus(STATUS.featuresOk)
    if ((common.DEVICE_STATUS.read() & STATUS.featuresOk) !== 0) return
    throw this.#failed(
      accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The virtio device refuses the features 0x${this.#features.toString(16)} of the 0x${offered.toString(16)} that it offers`,
      ),
    )
  }

  #offered(): bigint {
    const { DEVICE_FEATURE_SELECT, DEVICE_FEATURE } = this.#parts.common
    DEVICE_FEATURE_SELECT.write(0)
    const low = BigInt(DEVICE_FEATURE.read())
    DEVICE_FEATURE_SELECT.write(1)
    return low | (BigInt(DEVICE_FEATURE.read()) << 32n)
  }

  #choose(offered: bigint): bigint {
    const { transport } = this.#dev.identity
    // Over the kernel's VFIO addresses are the IOMMU's: to a device that goes around it they would be those of any memory.
    const translated = transport.kind === 'vfio' && transport.tainted === undefined
    const required = [FEATURE.version1, ...(translated ? [FEATURE.accessPlatform] : [])]
    const { required: own = [], wanted = [] } = this.#known
    for (const bit of [...required, ...own]) {
      if (hasFeature(offered, bit)) continue
      const why =
        bit === FEATURE.accessPlatform
          ? ': it would go around the IOMMU, to memory that is not ours (QEMU: iommu_platform=on)'
          : ''
      throw this.#failed(
        accelError(
          'ERR_ACCEL_UNSUPPORTED',
          `The virtio device lacks feature ${bit}${why}; it offers 0x${offered.toString(16)}`,
        ),
      )
    }
    return offered & featureSet([...Object.values(FEATURE), ...own, ...wanted])
  }

  /** Tells the device that the driver gave up (2.1). */
  #failed(error: AccelError): AccelError {
    this.#addStatus(STATUS.failed)
    return error
  }

  #addStatus(bit: number): void {
    const { DEVICE_STATUS } = this.#parts.common
    DEVICE_STATUS.write(DEVICE_STATUS.read() | bit)
  }

  #open(request: QueueRequest): Opened {
    const { common, notify, notifyBase, notifyBytes, multiplier } = this.#parts
    const { index, minSegments = 1 } = request
    const size = this.#select(index)
    const indirect = this.has(FEATURE.indirectDescriptors)
    // A device may have any size; of ours it is a power of two (2.7).
    const entries = Math.min(request.entries, 2 ** Math.floor(Math.log2(size)))
    const maxSegments = Math.min(request.maxSegments, entries)
    if (maxSegments < minSegments) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `Queue ${index} of the virtio device has ${size} entries; its driver needs chains of ${minSegments} segments`,
      )
    }
    const { sizeBytes } = splitLayout(entries, indirect ? maxSegments : 0)
    const offset = common.QUEUE_NOTIFY_OFF.read() * multiplier
    if (offset % 2 !== 0 || offset + 2 > notifyBytes) {
      throw accelError(
        'ERR_ACCEL_IO',
        `The virtio device wants queue ${index} to be notified at byte ${offset} of a structure of ${notifyBytes}`,
      )
    }
    const memory = this.#dev.dma.alloc(sizeBytes, { name: `virtqueue ${index}` })
    const notifyAt = notifyBase + offset
    const eventIndex = this.has(FEATURE.eventIndex)
    const shape = { index, entries, maxSegments, indirect, eventIndex, memory, notifier: notify, notifyAt }
    return { request, memory, queue: new SplitQueue(shape) }
  }

  /** Selects a queue; answers the most entries that it can have. */
  #select(index: number): number {
    const { common } = this.#parts
    const queues = common.NUM_QUEUES.read()
    common.QUEUE_SELECT.write(index)
    const size = index < queues ? common.QUEUE_SIZE.read() : 0
    if (size > 0) return size
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `The virtio device has no queue ${index}; it says that it has ${queues}`,
    )
  }

  /** 4.1.5.1.3. */
  #enable({ queue, memory, request }: Opened): void {
    const { common } = this.#parts
    const { index, layout } = queue
    this.#select(index)
    common.QUEUE_SIZE.write(queue.entries)
    const place = (offset: number) => memory.iova + BigInt(offset)
    const halves = (iova: bigint) => [Number(iova & 0xffff_ffffn), Number(iova >> 32n)] as const
    const [descriptors, avail, used] = [layout.descriptors, layout.avail, layout.used].map((offset) =>
      halves(place(offset)),
    )
    common.QUEUE_DESC_LO.write(descriptors![0])
    common.QUEUE_DESC_HI.write(descriptors![1])
    common.QUEUE_DRIVER_LO.write(avail![0])
    common.QUEUE_DRIVER_HI.write(avail![1])
    common.QUEUE_DEVICE_LO.write(used![0])
    common.QUEUE_DEVICE_HI.write(used![1])
    const irqs = this.#irqs
    if (irqs?.type === 'msix') {
      const configVector = irqs.count > this.#queues.length ? irqs.count - 1 : NO_VECTOR
      this.#setVector(common.CONFIG_MSIX_VECTOR, configVector)
      const position = this.#queues.findIndex((opened) => opened.request === request)
      this.#setVector(common.QUEUE_MSIX_VECTOR, vectorOf(position, irqs, this.#queues.length))
    }
    common.QUEUE_ENABLE.write(1)
  }

  /** A device that has no room for a vector reads as NO_VECTOR (4.1.5.1.2.1). */
  #setVector(register: Common['QUEUE_MSIX_VECTOR'], vector: number): void {
    register.write(vector)
    const found = register.read()
    if (found === vector) return
    throw accelError('ERR_ACCEL_IO', `The virtio device did not take interrupt vector ${vector}: ${found}`)
  }

  #handleInterrupts(irqs: IrqVectors): void {
    const queues = this.#queues
    if (irqs.type === 'intx') {
      irqs.handle(0, () => {
        const cause = this.#parts.isr.ISR.get() // acknowledges (4.1.4.5)
        if (cause.queue) for (const { request } of queues) request.used()
        if (cause.config) this.#configChanged()
      })
      return
    }
    for (let vector = 0; vector < irqs.count; vector++) {
      const told = queues.filter((_, i) => vectorOf(i, irqs, queues.length) === vector)
      if (told.length === 0) irqs.handle(vector, () => this.#configChanged())
      else if (told.length === 1) irqs.handle(vector, told[0]!.request.used)
      else
        irqs.handle(vector, () => {
          for (const { request } of told) request.used()
        })
    }
  }
}

/** The vector of the queue in that place; the last is for the configuration where there is one more than queues. */
function vectorOf(position: number, irqs: IrqVectors, queues: number): number {
  return position % Math.min(irqs.count, queues)
}

/** Maps a structure; one that starts in the middle of 8 bytes, from their start on. */
async function mapStructure(dev: Device, { bar, offset, sizeBytes }: Structure) {
  const within = offset % 8
  const memory = await dev.mapMemory(bar, { offset: offset - within, sizeBytes: sizeBytes + within })
  return { memory, offset: within }
}
