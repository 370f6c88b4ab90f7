import { closeSync, openSync, writeSync } from 'node:fs'
import { systemError } from '@uaccel/sys'

/** What a test wants of the kernel's iommufd. */
export interface FakeIommufdOptions {
  /** Reserved windows besides the one that MSI writes go to. */
  readonly windows?: number
  readonly mapErrno?: number
  readonly unmapShort?: boolean
  /** False: a kernel before 6.13. */
  readonly mapFile?: boolean
  /** Negative errno of mapping a file that is a dma-buf: the test says which descriptor. */
  readonly dmaBuf?: { readonly fd: number; readonly errno?: number }
  /** enum iommu_hw_info_type, and the structure of that type. */
  readonly hardware?: { readonly type: number; readonly data: Buffer }
  readonly pasidBits?: number
  readonly dirtyTracking?: boolean
  /** False: a kernel before 6.10. */
  readonly faultQueues?: boolean
  /** The device makes page requests. */
  readonly pageRequests?: boolean
}

interface Space {
  readonly mappings: Map<bigint, bigint>
}

interface Table {
  readonly space: number
  readonly flags: number
  readonly queue: number
}

const fail = (errno: number, what: string): never => {
  throw systemError('ioctl', errno, what)
}
const [ENOENT, EBUSY, ENODEV, EINVAL, EEXIST, ENOTTY, E2BIG, EMSGSIZE, EOPNOTSUPP] = [
  -2, -16, -19, -22, -17, -25, -7, -90, -95,
]

/** An iommufd context as linux/iommufd.h describes it, for devices behind one Intel IOMMU. Without the transport's constants. */
export class FakeIommufd {
  readonly spaces = new Map<number, Space>()
  readonly tables = new Map<number, Table>()
  readonly queues = new Map<number, { readonly fd: number; pending: Buffer; answers: string[] }>()
  /** What a device's file is attached to, untagged (0) and by PASID. */
  readonly attachments = new Map<number, Map<number, number>>()
  readonly #options: FakeIommufdOptions
  readonly #log: string[]
  readonly #attached: Set<number>
  readonly #newFd: () => number
  readonly #primary: Map<bigint, bigint>
  #nextId = 7

  constructor(
    options: FakeIommufdOptions,
    log: string[],
    attached: Set<number>,
    primary: Map<bigint, bigint>,
    newFd: () => number,
  ) {
    this.#options = options
    this.#log = log
    this.#attached = attached
    this.#primary = primary
    this.#newFd = newFd
  }

  attach(fd: number, b: Buffer): number {
    const [size, flags, target] = [b.readUInt32LE(0), b.readUInt32LE(4), b.readUInt32LE(8)]
    if (size !== (flags === 1 ? 16 : 12) || flags > 1) fail(EINVAL, 'ATTACH')
    const table = this.tables.get(target)
    if (table === undefined && !this.spaces.has(target)) fail(ENOENT, 'ATTACH')
    if (table?.queue && !this.#options.pageRequests) fail(ENODEV, 'ATTACH')
    const pasid = flags === 1 ? b.readUInt32LE(12) : 0
    const mine = this.attachments.get(fd) ?? new Map<number, number>()
    const own = this.tables.get(mine.get(0) ?? 0)
    if (flags === 1 && ((own?.flags ?? 0) & 8 & (table?.flags ?? 0)) === 0) fail(EINVAL, 'ATTACH by PASID')
    const space = this.spaces.get(table?.space ?? target)!
    if ([...space.mappings.keys()].some((iova) => iova >= 1n << 39n)) fail(-98, 'ATTACH') // EADDRINUSE
    this.attachments.set(fd, mine.set(pasid, target))
    this.#attached.add(fd)
    return this.#log.push(pasid === 0 ? 'attach' : `attach pasid ${pasid}`) && 0
  }

  detach(fd: number, b: Buffer): number {
    const flags = b.readUInt32LE(4)
    if (b.readUInt32LE(0) !== (flags === 1 ? 12 : 8) || flags > 1) fail(EINVAL, 'DETACH')
    const pasid = flags === 1 ? b.readUInt32LE(8) : 0
    this.attachments.get(fd)?.delete(pasid)
    if (pasid === 0) this.#attached.delete(fd)
    return this.#log.push(pasid === 0 ? 'detach' : `detach pasid ${pasid}`) && 0
  }

  ioctl(request: number, b: Buffer): number {
    const sizes: Readonly<Record<number, number>> = {
      ...{ 128: 8, 129: 12, 131: 40, 132: 32, 133: 40, 134: 24, 137: 48, 138: 40, 139: 16, 140: 48 },
      ...{ 142: 16, 143: 40 },
    }
    if (b.readUInt32LE(0) !== b.length || b.length !== sizes[request])
      fail(EINVAL, `size of 0x${request.toString(16)}`)
    switch (request) {
      case 0x80:
        return this.#destroy(b.readUInt32LE(4))
      case 0x81: {
        const id = this.#nextId++
        this.spaces.set(id, { mappings: this.spaces.size === 0 ? this.#primary : new Map() })
        b.writeUInt32LE(id, 8)
        return this.#log.push('ioas alloc') && 0
      }
      case 0x83:
        return this.#copy(b)
      case 0x84:
        return this.#iovaRanges(b)
      case 0x85:
        return this.#map(b, 'address')
      case 0x86:
        return this.#unmap(b)
      case 0x89:
        return this.#allocTable(b)
      case 0x8a:
        return this.#hardwareInfo(b)
      case 0x8b:
        if (((this.tables.get(b.readUInt32LE(8))?.flags ?? 0) & 2) === 0) fail(EOPNOTSUPP, 'SET_DIRTY')
        return this.#log.push(`dirty tracking ${b.readUInt32LE(4)}`) && 0
      case 0x8c:
        return this.#dirtyBitmap(b)
      case 0x8e: {
        if (this.#options.faultQueues === false) fail(ENOTTY, 'FAULT_QUEUE_ALLOC')
        const [id, fd] = [this.#nextId++, this.#newFd()]
        this.queues.set(id, { fd, pending: Buffer.alloc(0), answers: [] })
        b.writeUInt32LE(id, 8)
        b.writeUInt32LE(fd, 12)
        return 0
      }
      case 0x8f:
        if (this.#options.mapFile === false) fail(ENOTTY, 'MAP_FILE')
        return this.#map(b, 'file')
      default:
        return fail(ENOTTY, `0x${request.toString(16)}`)
    }
  }

  /** The queue behind a descriptor. */
  queueOf(fd: number) {
    return [...this.queues.values()].find((queue) => queue.fd === fd)!
  }

  #destroy(id: number): number {
    const users = [...this.attachments.values()].flatMap((by) => [...by.values()])
    const inTables = [...this.tables.values()].some(({ space, queue }) => space === id || queue === id)
    if (users.includes(id) || inTables) fail(EBUSY, 'DESTROY')
    const known = [this.spaces, this.tables, this.queues].some((objects) => objects.delete(id))
    return known ? this.#log.push(`destroy ${id}`) && 0 : fail(ENOENT, 'DESTROY')
  }

  #space(id: number): Space {
    return this.spaces.get(id) ?? fail(ENOENT, 'no such space')
  }

  #allocTable(b: Buffer): number {
    const [flags, device, space, queue] = [
      b.readUInt32LE(4),
      b.readUInt32LE(8),
      b.readUInt32LE(12),
      b.readUInt32LE(40),
    ]
    if (device !== 77) fail(ENOENT, 'HWPT_ALLOC')
    this.#space(space)
    if ((flags & 4) !== 0 && this.#options.faultQueues === false) fail(E2BIG, 'HWPT_ALLOC')
    if ((flags & 4) !== 0 && !this.queues.has(queue)) fail(ENOENT, 'HWPT_ALLOC')
    if ((flags & 2) !== 0 && !this.#options.dirtyTracking) fail(EOPNOTSUPP, 'HWPT_ALLOC')
    if ((flags & ~14) !== 0) fail(EOPNOTSUPP, 'HWPT_ALLOC')
    const id = this.#nextId++
    this.tables.set(id, { space, flags, queue })
    b.writeUInt32LE(id, 16)
    return this.#log.push(`page table ${id} flags ${flags}`) && 0
  }

  #hardwareInfo(b: Buffer): number {
    if (b.readUInt32LE(8) !== 77) fail(ENOENT, 'GET_HW_INFO')
    const { hardware, pasidBits = 0, dirtyTracking } = this.#options
    const data = hardware?.data ?? Buffer.alloc(0)
    poke(b.readBigUInt64LE(16), data.subarray(0, b.readUInt32LE(12)))
    b.writeUInt32LE(data.length, 12)
    b.writeUInt32LE(hardware?.type ?? 0, 24)
    b.writeUInt8(pasidBits, 28)
    b.writeBigUInt64LE(dirtyTracking ? 1n : 8n, 32)
    return 0
  }

  #dirtyBitmap(b: Buffer): number {
    if (((this.tables.get(b.readUInt32LE(4))?.flags ?? 0) & 2) === 0) fail(EOPNOTSUPP, 'GET_DIRTY')
    const pages = Number(b.readBigUInt64LE(24) / b.readBigUInt64LE(32))
    const bits = Buffer.alloc(Math.ceil(pages / 64) * 8)
    bits[0] = 0b101
    poke(b.readBigUInt64LE(40), bits)
    return this.#log.push(`dirty pages at 0x${b.readBigUInt64LE(16).toString(16)}`) && 0
  }

  #copy(b: Buffer): number {
    const [to, from] = [this.#space(b.readUInt32LE(8)), this.#space(b.readUInt32LE(12))]
    const size = b.readBigUInt64LE(16)
    if (from.mappings.get(b.readBigUInt64LE(32)) !== size) fail(ENOENT, 'IOAS_COPY')
    if (to.mappings.has(b.readBigUInt64LE(24))) fail(EEXIST, 'IOAS_COPY')
    to.mappings.set(b.readBigUInt64LE(24), size)
    return this.#log.push(`copy flags ${b.readUInt32LE(4)}`) && 0
  }

  #unmap(b: Buffer): number {
    const { mappings } = this.#space(b.readUInt32LE(4))
    const iova = b.readBigUInt64LE(8)
    const size = mappings.get(iova) ?? 0n
    mappings.delete(iova)
    b.writeBigUInt64LE(this.#options.unmapShort ? 0n : size, 16)
    return 0
  }

  #map(b: Buffer, by: 'file' | 'address'): number {
    if (this.#options.mapErrno !== undefined) fail(this.#options.mapErrno, 'IOAS_MAP')
    const { dmaBuf } = this.#options
    if (by === 'file' && dmaBuf?.fd === b.readInt32LE(12) && dmaBuf.errno !== undefined)
      fail(dmaBuf.errno, 'MAP_FILE')
    this.#log.push(`map ${by} flags ${b.readUInt32LE(4)}`)
    this.#space(b.readUInt32LE(8)).mappings.set(b.readBigUInt64LE(32), b.readBigUInt64LE(24))
    return 0
  }

  /** A space without devices has no limits; each device that is attached cuts a window out. */
  #iovaRanges(b: Buffer): number {
    const id = b.readUInt32LE(4)
    this.#space(id)
    const count = [...this.attachments.values()]
      .flatMap((by) => [...by.values()])
      .filter((target) => (this.tables.get(target)?.space ?? target) === id).length
    const reserved: [bigint, bigint][] = []
    if (count > 0) reserved.push([0xfee0_0000n, 0xfeef_ffffn], [1n << 39n, ~0n])
    if (count > 1) reserved.unshift([0xa_0000n, 0xf_ffffn])
    for (let i = 0n; i < (this.#options.windows ?? 0); i++)
      reserved.splice(-1, 0, [(1n + i) << 33n, ((1n + i) << 33n) + 4095n])
    const words: bigint[] = [0n]
    for (const [first, last] of reserved) words.push(first - 1n, last + 1n)
    if (count > 0) words.pop()
    else words.push(~0n)
    const room = b.readUInt32LE(8)
    b.writeUInt32LE(words.length / 2, 8)
    b.writeBigUInt64LE(count > 0 ? 4096n : 1n, 24)
    const list = BigUint64Array.from(words.slice(0, 2 * room))
    poke(b.readBigUInt64LE(16), Buffer.from(list.buffer))
    return room < words.length / 2 ? fail(EMSGSIZE, 'IOVA_RANGES') : 0
  }
}

/** Writes where a request points to, as the kernel does. */
function poke(address: bigint, bytes: Uint8Array): void {
  const memory = openSync('/proc/self/mem', 'r+')
  writeSync(memory, bytes, 0, bytes.length, Number(address))
  closeSync(memory)
}
