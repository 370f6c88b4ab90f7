import { createSealedMemory, EventFd, sys, systemError } from '@uaccel/sys'
import type { VfioCalls } from './calls.js'
import { FakeIommufd, type FakeIommufdOptions } from './fake-iommufd.test.support.js'

const io = (n: number) => 0x3b64 + n

/** What a test wants of the kernel. */
export interface FakeKernelOptions extends FakeIommufdOptions {
  readonly viable?: boolean
  readonly apiVersion?: number
  readonly type1v2?: boolean
  /** Negative errno of opening a path that ends like this. */
  readonly openErrors?: Readonly<Record<string, number>>
  /** How long GET_DEVICE_FD or BIND_IOMMUFD takes. */
  readonly openMs?: number
  readonly resetMs?: number
  /** How often a reset answers EAGAIN first. */
  readonly resetsAgain?: number
  /** The devices of the bus: 0000:bus:00.devfn and the group, or where opened by iommufd the id. Without them there is no hot reset. */
  readonly bus?: readonly { readonly bus: number; readonly devfn: number; readonly id: number }[]
  readonly hotResetErrno?: number
  readonly lowPower?: boolean
  readonly msixGrants?: number
  /** Leaves the IOVA capability out, or puts a chain that never ends in its place. */
  readonly iovaCapability?: 'absent' | 'loop'
  /** The device is PCI Express and has the ERR interrupt. */
  readonly express?: boolean
  /** Negative errno of arming that interrupt index. */
  readonly armErrors?: Readonly<Record<number, number>>
  /** Negative errno of a request by name. */
  readonly errors?: Readonly<
    Partial<Record<'getDevice' | 'ioasAlloc' | 'bind' | 'attach' | 'detach' | 'deviceInfo', number>>
  >
  /** Negative errno of exporting a BAR, 0 for success. Absent in kernels before 6.19. */
  readonly dmaBufs?: number
}

interface Node {
  readonly kind: 'group' | 'container' | 'device' | 'cdev' | 'iommu' | 'queue'
  readonly path: string
}

/**
 * A kernel with VFIO as its header describes it, for one kind of device: a BAR 0 of 16 KiB that is mappable but for
 * its third page, a BAR 2 of 256 bytes, config space; INTx, 4 MSI-X vectors, REQ. Written from linux/vfio.h and
 * linux/iommufd.h, without the transport's constants.
 */
export class FakeKernel implements VfioCalls {
  readonly log: string[] = []
  readonly nodes = new Map<number, Node>()
  readonly config = Buffer.alloc(4096)
  readonly mappings = new Map<bigint, bigint>()
  /** Armed eventfds by interrupt index, of the device that was opened last. */
  triggers = new Map<number, readonly number[]>()
  readonly #triggersOf = new Map<number, Map<number, readonly number[]>>()
  /** Devices that are attached to the I/O address space. */
  readonly #attached = new Set<number>()
  readonly iommufd: FakeIommufd
  readonly #options: FakeKernelOptions
  readonly #configOffset = 0x10_0000
  #resets = 0

  constructor(options: FakeKernelOptions = {}) {
    this.#options = options
    const { log, mappings } = this
    this.iommufd = new FakeIommufd(options, log, this.#attached, mappings, () => this.#node('queue', 'queue'))
    this.config.writeUInt32LE(0x11e81234, 0)
    this.config[4] = 2 // the kernel switches memory decoding on when it opens the device
    this.config[6] = 0x10
    this.config[0x34] = 0x80
    this.config.set([1, 0, 3, 0], 0x80) // power management
  }

  open(path: string): number {
    for (const [end, errno] of Object.entries(this.#options.openErrors ?? {})) {
      if (path.endsWith(end)) throw systemError('open', errno, path)
    }
    const kinds = { 'vfio/vfio': 'container', '/iommu': 'iommu' } as const
    const kind = Object.entries(kinds).find(([end]) => path.endsWith(end))?.[1]
    return this.#node(kind ?? (path.includes('/devices/') ? 'cdev' : 'group'), path)
  }

  close(fd: number): void {
    const node = this.nodes.get(fd)
    if (node === undefined) throw new Error(`fd ${fd} is not open`)
    this.log.push(`close ${node.kind}`)
    this.nodes.delete(fd)
    this.#attached.delete(fd)
    this.iommufd.attachments.delete(fd)
    sys.close(fd)
  }

  async closeAsync(fd: number): Promise<void> {
    this.close(fd)
  }

  async ioctlAsync(fd: number, request: number, arg: Uint8Array | bigint | number = 0): Promise<number> {
    const { openMs = 0, resetMs = 0 } = this.#options
    const opens = request === io(6) || request === io(18)
    await new Promise((resolve) => setTimeout(resolve, opens ? openMs : resetMs))
    return this.ioctl(fd, request, arg)
  }

  /** Page requests, whole records. */
  read(fd: number, buffer: Uint8Array): number {
    const queue = this.iommufd.queueOf(fd)
    // One group waits at most: where it does not fit it stays (iommufd_fault_fops_read in drivers/iommu/iommufd/eventq.c).
    if (queue.pending.length > buffer.length) return 0
    const count = queue.pending.copy(buffer)
    queue.pending = queue.pending.subarray(count)
    return count
  }

  write(fd: number, buffer: Uint8Array): number {
    this.iommufd.queueOf(fd).answers.push(Buffer.from(buffer).toString('hex'))
    return buffer.length
  }

  pread(_fd: number, buffer: Uint8Array, offset: number | bigint): number {
    const at = Number(offset) - this.#configOffset
    if (at < 0) return buffer.fill(0x5a).length
    return this.config.copy(buffer, 0, at, at + buffer.length)
  }

  pwrite(_fd: number, buffer: Uint8Array, offset: number | bigint): number {
    const at = Number(offset) - this.#configOffset
    this.log.push(`pwrite 0x${Number(offset).toString(16)} ${buffer.length}`)
    if (at >= 0) this.config.set(buffer, at)
    return buffer.length
  }

  ioctl(fd: number, request: number, arg: Uint8Array | bigint | number = 0): number {
    const kind = this.nodes.get(fd)?.kind
    const b =
      typeof arg === 'object' ? Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength) : Buffer.alloc(0)
    const wrong = (): never => {
      throw systemError('ioctl', -22, `request ${request - io(0)} on ${kind}`)
    }
    if (kind === 'iommu') {
      if (request === 0x3b81) this.#fail('ioasAlloc')
      return this.iommufd.ioctl(request - 0x3b00, b)
    }
    switch (`${kind} ${request - io(0)}`) {
      case 'container 0':
        return this.#options.apiVersion ?? 0
      case 'container 1':
        return arg === 3 && this.#options.type1v2 !== false ? 1 : 0
      case 'container 2':
        return this.log.push('set iommu') && 0
      case 'container 12':
        return this.#iommuInfo(b)
      case 'container 13':
        return this.#map(b)
      case 'container 14':
        return this.#unmap(b)
      case 'group 3':
        b.writeUInt32LE((this.#options.viable ?? true) ? 3 : 2, 4) // viable, and a bit more
        return 0
      case 'group 4':
        return this.nodes.get(b.readInt32LE(0))?.kind === 'container'
          ? this.log.push('set container') && 0
          : wrong()
      case 'group 6':
        this.#fail('getDevice')
        return this.#node('device', b.toString('latin1', 0, b.length - 1))
      case 'cdev 18':
        this.#fail('bind')
        if (b.readUInt32LE(0) !== 16 || this.nodes.get(b.readInt32LE(8))?.kind !== 'iommu') return wrong()
        this.nodes.set(fd, { kind: 'device', path: this.nodes.get(fd)!.path })
        this.#newDevice(fd)
        b.writeUInt32LE(77, 12)
        return this.log.push('bind') && 0
      case 'device 19':
        this.#fail('attach')
        return this.iommufd.attach(fd, b)
      case 'device 20':
        this.#fail('detach')
        return this.iommufd.detach(fd, b)
      case 'device 7':
        this.#fail('deviceInfo')
        b.writeUInt32LE(3, 4)
        b.writeUInt32LE(9, 8)
        b.writeUInt32LE(5, 12)
        return 0
      case 'device 8':
        return this.#regionInfo(b) ? 0 : wrong()
      case 'device 9':
        return this.#irqInfo(b) ? 0 : wrong()
      case 'device 10':
        return this.#setIrqs(b, this.#triggersOf.get(fd)!)
      case 'device 11':
        if (this.#resets++ < (this.#options.resetsAgain ?? 0)) throw systemError('ioctl', -11, 'RESET')
        return this.log.push('reset') && 0
      case 'device 12':
        return this.#hotResetInfo(fd, b)
      case 'device 13':
        return this.#hotReset(fd, b)
      case 'device 17':
        return this.#feature(b)
      default:
        return wrong()
    }
  }

  /** Fires an interrupt: index 0 INTx, 2 MSI-X, 3 ERR, 4 REQ. */
  fire(index: number, vector = 0): void {
    const event = new EventFd(sys, sys.dup(this.triggers.get(index)![vector]))
    event.signal()
    event.close()
  }

  #node(kind: Node['kind'], path: string): number {
    const fd = createSealedMemory('fake-vfio', 0x4000).fd
    this.nodes.set(fd, { kind, path })
    this.log.push(`open ${kind}`)
    if (kind === 'device') this.#newDevice(fd)
    return fd
  }

  #newDevice(fd: number): void {
    this.triggers = new Map()
    this.#triggersOf.set(fd, this.triggers)
  }

  #fail(request: keyof NonNullable<FakeKernelOptions['errors']>): void {
    const errno = this.#options.errors?.[request]
    if (errno !== undefined) throw systemError('ioctl', errno, request)
  }

  #regionInfo(b: Buffer): boolean {
    const index = b.readUInt32LE(8)
    if (index === 8) return false // no VGA
    const sizes: Readonly<Record<number, number>> = { 0: 0x4000, 2: 0x100, 7: 4096 }
    b.writeUInt32LE(index === 0 ? 15 : index === 2 ? 7 : index === 7 ? 3 : 0, 4)
    b.writeUInt32LE(0, 12)
    b.writeBigUInt64LE(BigInt(sizes[index] ?? 0), 16)
    b.writeBigUInt64LE(BigInt(index === 7 ? this.#configOffset : 0), 24)
    if (index !== 0) return true
    // TYPE, then SPARSE with an area that is misaligned and one beyond the end.
    b.writeUInt32LE(32 + 16 + 16 + 4 * 16, 0)
    if (b.length < 128) return true
    b.writeUInt32LE(32, 12)
    b.writeUInt16LE(2, 32)
    b.writeUInt32LE(48, 36)
    b.writeUInt16LE(1, 48)
    b.writeUInt32LE(0, 52)
    b.writeUInt32LE(4, 56)
    const areas = [0x3000, 0x1000, 0, 0x2000, 0x2100, 0x80, 0x4000, 0x1000]
    for (const [i, value] of areas.entries()) b.writeBigUInt64LE(BigInt(value), 64 + 8 * i)
    return true
  }

  #hotResetInfo(fd: number, b: Buffer): number {
    const { bus } = this.#options
    if (bus === undefined) throw systemError('ioctl', -19, 'HOT_RESET_INFO')
    b.writeUInt32LE(bus.length, 8)
    if (b.readUInt32LE(0) < 12 + 8 * bus.length) throw systemError('ioctl', -28, 'HOT_RESET_INFO')
    const cdev = this.#attached.has(fd)
    const owned = bus.every(({ id }) => id !== -1)
    b.writeUInt32LE(cdev ? (owned ? 3 : 1) : 0, 4)
    for (const [i, { bus: number, devfn, id }] of bus.entries()) {
      b.writeInt32LE(id, 12 + 8 * i)
      b.writeUInt8(number, 12 + 8 * i + 6)
      b.writeUInt8(devfn, 12 + 8 * i + 7)
    }
    return 0
  }

  #hotReset(fd: number, b: Buffer): number {
    const fds = Array.from({ length: b.readUInt32LE(8) }, (_, i) => b.readInt32LE(12 + 4 * i))
    if (b.length !== 12 + 4 * fds.length) throw systemError('ioctl', -22, 'argsz')
    // With a device's own file no groups are shown, and with a group's at least that one.
    if (this.#attached.has(fd) !== (fds.length === 0)) throw systemError('ioctl', -22, 'groups')
    const { hotResetErrno } = this.#options
    if (hotResetErrno !== undefined) throw systemError('ioctl', hotResetErrno, 'HOT_RESET')
    const names = fds.map((each) => this.nodes.get(each)?.path.split('/').at(-1) ?? 'none')
    return this.log.push(`hot reset ${names.join(' ')}`.trim()) && 0
  }

  #irqInfo(b: Buffer): boolean {
    const index = b.readUInt32LE(8)
    if (index === 3 && !this.#options.express) return false
    b.writeUInt32LE(index === 0 ? 7 : 9, 4)
    b.writeUInt32LE([1, 0, 4, 1, 1][index], 12)
    return true
  }

  #setIrqs(b: Buffer, triggers: Map<number, readonly number[]>): number {
    const [flags, index, start, count] = [
      b.readUInt32LE(4),
      b.readUInt32LE(8),
      b.readUInt32LE(12),
      b.readUInt32LE(16),
    ]
    if (b.readUInt32LE(0) !== b.length) throw systemError('ioctl', -22, 'argsz')
    this.log.push(`irqs ${index} flags 0x${flags.toString(16)} ${start}+${count}`)
    const refused = flags === 0x24 ? this.#options.armErrors?.[index] : undefined
    if (refused !== undefined) throw systemError('ioctl', refused, 'SET_IRQS')
    const grants = this.#options.msixGrants
    if (index === 2 && grants !== undefined && count > grants) return grants
    if (flags === 0x24) {
      if (triggers.has(index)) throw systemError('ioctl', -22, 'NORESIZE')
      triggers.set(
        index,
        Array.from({ length: count }, (_, i) => b.readInt32LE(20 + 4 * i)),
      )
    } else if (flags === 0x21 && count === 0) triggers.delete(index)
    return 0
  }

  #iommuInfo(b: Buffer): number {
    b.writeUInt32LE(3, 4)
    b.writeBigUInt64LE(0x4020_1000n, 8)
    const { iovaCapability } = this.#options
    const needed = 24 + 16 + 2 * 16 + 12
    b.writeUInt32LE(needed, 0)
    if (b.length < needed) return 0
    b.writeUInt32LE(24, 16)
    b.writeUInt16LE(iovaCapability === undefined ? 1 : 99, 24)
    b.writeUInt32LE(iovaCapability === 'loop' ? 24 : 72, 28)
    b.writeUInt32LE(2, 32)
    for (const [i, value] of [0n, 0xfedf_ffffn, 0xfef0_0000n, 0x7f_ffff_ffffn].entries())
      b.writeBigUInt64LE(value, 40 + 8 * i)
    b.writeUInt16LE(3, 72)
    b.writeUInt32LE(0, 76)
    b.writeUInt32LE(1234, 80)
    return 0
  }

  #map(b: Buffer): number {
    if (this.#options.mapErrno !== undefined) throw systemError('ioctl', this.#options.mapErrno, 'MAP_DMA')
    this.log.push(`map flags ${b.readUInt32LE(4)}`)
    this.mappings.set(b.readBigUInt64LE(16), b.readBigUInt64LE(24))
    return 0
  }

  #unmap(b: Buffer): number {
    const iova = b.readBigUInt64LE(8)
    const size = this.mappings.get(iova) ?? 0n
    this.mappings.delete(iova)
    b.writeBigUInt64LE(this.#options.unmapShort ? 0n : size, 16)
    return 0
  }

  /** Low power; and dma-bufs: struct vfio_device_feature, then region, open flags, flags, ranges, and one range. */
  #feature(b: Buffer): number {
    const { dmaBufs } = this.#options
    const flags = b.readUInt32LE(4)
    if (b.readUInt32LE(0) !== b.length) throw systemError('ioctl', -22, 'argsz')
    const power = { 3: 'low power', 5: 'full power' }[flags & 0xffff]
    if (power !== undefined && this.#options.lowPower) {
      if ((flags & (1 << 18)) === 0) this.log.push(power)
      return 0
    }
    if (dmaBufs === undefined || (flags & 0xffff) !== 11) throw systemError('ioctl', -25, 'FEATURE')
    if (flags === ((1 << 18) | (1 << 16) | 11)) return 0
    const words = [8, 12, 16, 20].map((at) => b.readUInt32LE(at))
    if (flags !== ((1 << 16) | 11) || b.length !== 40) throw systemError('ioctl', -22, 'FEATURE')
    if (dmaBufs < 0) throw systemError('ioctl', dmaBufs, 'DMA_BUF')
    this.log.push(
      `export ${words.join(' ')} 0x${b.readBigUInt64LE(24).toString(16)}+0x${b.readBigUInt64LE(32).toString(16)}`,
    )
    return sys.eventfd()
  }
}
