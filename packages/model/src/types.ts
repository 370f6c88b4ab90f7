import type { AccessWidth, Area, IrqInfo, IrqType, RegionInfo } from '@uaccel/core'
import type { DmaAccess, DmaMapper, Iova } from '@uaccel/memory'
import type { AccelError } from '@uaccel/uapi'

/** What a device model's configuration space says of it. */
export interface ModelIdentity {
  readonly name: string
  readonly vendor: number
  readonly device: number
  readonly revision?: number
  /** Base class, subclass and programming interface: 0xBBSSPP. */
  readonly classCode: number
  readonly subsystemVendor?: number
  readonly subsystem?: number
}

/** A BAR. What is neither a declared register nor in `memory` is an error to touch. */
export interface ModelBar {
  readonly index: 0 | 1 | 2 | 3 | 4 | 5
  /** A power of two, at least 16 (PCI 3.0, 6.2.5.1). */
  readonly sizeBytes: number
  readonly kind: 'mem32' | 'mem64'
  readonly prefetchable?: boolean
  /** Parts that are plain memory: they may be mapped into the driver, and then no access of theirs is seen. */
  readonly memory?: readonly ModelMemory[]
}

/** A part of a BAR that is memory, page-aligned so that it can be mapped. */
export interface ModelMemory extends Area {
  readonly name: string
}

/** The interrupts that the model offers, each with its number of vectors. */
export interface ModelInterrupts {
  readonly intx?: boolean
  /** 1, 2, 4, 8, 16 or 32 (PCI 3.0, 6.8.1). */
  readonly msi?: number
  /** Up to 2048, with the table and the pending bits in a BAR (PCI 3.0, 6.8.2). */
  readonly msix?: {
    readonly vectors: number
    readonly bar: number
    readonly tableOffset: number
    readonly pbaOffset: number
  }
}

/** Memory of the host as the device reaches it. A range that is not mapped, or not for that access, throws `ERR_ACCEL_DMA_FAULT` and is kept as a violation. */
export interface ModelDma {
  /** Copies host memory into `into`. */
  read(iova: bigint, into: Uint8Array): void
  write(iova: bigint, from: Uint8Array): void
  /** The memory itself, without a copy, where one mapping holds the whole range; otherwise undefined. Never kept past one clock step. */
  view(iova: bigint, sizeBytes: number, access: 'read' | 'write' | 'readwrite'): Uint8Array | undefined
}

/** The device's time, in nanoseconds. Work is scheduled and runs when the clock steps, never inside a register access. */
export interface ModelClock {
  now(): number
  /** Runs `work` once the clock has advanced by `delayNs`. Answers a function that cancels it. */
  after(delayNs: number, work: () => void): () => void
  /**
   * Runs `work` as soon as `look`, which is asked again and again, answers true, or once `forNs` have passed: for what nobody announces, such as
   * a doorbell in memory. Answers a function that cancels it. Absent where time stands still between steps.
   */
  poll?(forNs: number, look: () => boolean, work: () => void): () => void
}

/** What a model is built from. */
export interface ModelContext {
  readonly dma: ModelDma
  readonly clock: ModelClock
  /**
   * Runs `action`, now or, where a transfer of this device waits for its answer, as soon as the work that asked for the transfer has ended;
   * until then every other transfer of it fails. For a register that resets what such work uses.
   */
  atRest(action: () => void): void
  /** Fires MSI-X or MSI vector `vector`, whichever is enabled; honours masks and pending bits. */
  raise(vector: number): void
  /** Drives the INTx line, which is level-triggered. */
  setIntx(asserted: boolean): void
  /** The bytes behind a {@link ModelMemory}, shared with the driver when it has mapped them. */
  memory(name: string): Uint8Array
  /** True while configuration space allows bus mastering. Without it the device may not use `dma`. */
  readonly busMaster: boolean
  /** Keeps a violation: the driver did something that its specification forbids and that no access check sees. */
  violation(message: string): void
  /** The interrupt kind that the driver has enabled; `intx` where it has enabled neither of the others. */
  readonly irqMode: 'intx' | 'msi' | 'msix'
}

/** A model of one kind of device: data, and a function that builds its behaviour. */
export interface ModelDefinition<Options = object> {
  readonly identity: ModelIdentity
  readonly bars: readonly ModelBar[]
  readonly interrupts: ModelInterrupts
  /** Physical address bits that the device can put on the bus; DMA beyond them is a violation. Default 64. */
  readonly addressBits?: number
  /**
   * Capabilities besides MSI and MSI-X. With `express` the function has 4096 bytes of configuration space and function-level reset.
   * `vendor` are the bytes of vendor-specific ones, from behind their length on: read-only.
   */
  readonly capabilities?: {
    readonly powerManagement?: boolean
    readonly express?: boolean
    readonly vendor?: readonly Uint8Array[]
  }
  create(context: ModelContext, options: Options): ModelBehaviour
}

/** The behaviour of a model: a function call for each access outside plain memory. */
export interface ModelBehaviour {
  /** One access of exactly that width. `undefined` (read) or `false` (write) where no register of that width and kind is declared: a violation. */
  read(bar: number, offset: number, width: AccessWidth | 8): number | bigint | undefined
  write(bar: number, offset: number, width: AccessWidth | 8, value: number | bigint): boolean
  /** What the model declares at or around an offset, for the message of a violation. */
  describe?(bar: number, offset: number): string
  /** Back to power-on state. Scheduled work is cancelled before. */
  reset(): void
}

/** The emulated function that transports and servers drive: a definition made alive. What loopback and the vfio-user server have in common. */
export interface EmulatedFunction {
  readonly identity: ModelIdentity
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  /** The file behind a region's mappable areas, for mapping it here or passing it to a client. */
  regionFd(region: number): { readonly fd: number; readonly offset: number } | undefined
  /** A bus access of 1, 2, 4 or 8 bytes, or for config space and plain memory of any length. Little-endian. */
  regionRead(region: number, offset: number, into: Uint8Array): void
  regionWrite(region: number, offset: number, from: Uint8Array): void
  /**
   * Arms vectors with eventfds (owned by the caller; -1: none), or disables the kind with an empty list, which can also be done
   * after the device vanished.
   */
  setIrqs(type: IrqType, start: number, fds: readonly number[]): void
  maskIrq(type: IrqType, vector: number, masked: boolean): void
  /** Host memory that the device may reach. */
  readonly dma: DmaMapper & {
    /** How many mappings there are. */
    readonly size: number
    /** Takes back all mappings that lie in a range, which may be none. @throws ERR_ACCEL_INVALID_ARGUMENT where it cuts one: then all stay */
    unmapWithin(first: bigint, end: bigint): void
    /** Takes all mappings back. */
    clear(): void
    /** Adds memory that has no file, or none that may be mapped; taken back with `unmap`. */
    addRemote(iova: Iova, sizeBytes: number, access: DmaAccess, remote: RemoteAccess): void
  }
  reset(): void
  /** Calls back once when the device vanishes. Answers a function that takes the listener back. */
  onLost(listener: (reason: AccelError) => void): () => void
  close(): void
}

/** Host memory that only messages can reach: vfio-user without descriptors. */
export interface RemoteAccess {
  read(iova: bigint, into: Uint8Array): void
  write(iova: bigint, from: Uint8Array): void
}
