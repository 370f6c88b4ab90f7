import type { AccelClient, AnyDriver, NodeLimits } from '@uaccel/accel'
import type { ModelDefinition } from '@uaccel/model'
import type { Uapi } from '@uaccel/uapi'

/** The misfortunes: those of `Faults` of @uaccel/model, and of a vfio-user peer one that is killed and one that falls silent. */
export const faultNames = [
  'lostInterrupt',
  'spuriousInterrupt',
  'dmaError',
  'hang',
  'allOnes',
  'vanish',
  'request',
  'error',
  'peerKilled',
  'peerSilent',
] as const
export type FaultName = (typeof faultNames)[number]

export type FaultTransport = 'loopback' | 'vfio-user'

/** What can be wrong with a driver under a fault. */
export const verdicts = [
  'hung',
  'leaked',
  'lied',
  'wrongError',
  'brokeRules',
  'doesNotRecover',
  'crashed',
] as const
export type Verdict = (typeof verdicts)[number]

/**
 * Something that a driver does for a user of its device, once, from an open that may have done it before. Answers whether what came is
 * what a healthy device gives; false, or an assertion that fails, where the driver answered success and it is not. Gives back all that
 * it took, also where it fails. It sets no limit: that the driver's own waits have limits is part of what is tested.
 */
export type FaultOperation<U extends Uapi> = (device: AccelClient<U>) => Promise<boolean>

/** How a driver is run through the faults. */
export interface FaultMatrixOptions<U extends Uapi, Model> {
  /** `import.meta.url` of the module that makes the matrix and exports it: the cells run in processes that import it. */
  readonly module: string
  /** By name. */
  readonly operations: Readonly<Record<string, FaultOperation<U>>>
  /** What the model takes. Made anew for each device. */
  readonly model?: () => Model
  /** Limits of the subsystem; those of `Accel` unless told. */
  readonly limits?: Partial<NodeLimits>
  /** Offer the BARs' memory for mapping. Default false: each access is a moment at which a fault can strike. */
  readonly mapped?: boolean
  /** Time after which what has not ended is hung, in ms of the driver's clock, which runs ahead while nothing happens. Default 120,000. */
  readonly limitMs?: number
}

/** How much of a matrix is run. */
export interface FaultRunOptions {
  /** Moments of each row and fault, sampled evenly. Default 8; `Infinity` for each one. */
  readonly moments?: number
  /** Default: all. */
  readonly faults?: readonly FaultName[]
  /** Rows: names of operations, and `probe`, `reset`, `recovery`, `remove`. Default: all. */
  readonly rows?: readonly string[]
  /** Runs the model's faults over vfio-user too. Default false: they run on loopback, those of the peer over vfio-user. */
  readonly everywhere?: boolean
  /** Processes that run cells at once. Default 2. */
  readonly jobs?: number
  /** For how long a driver may work without a turn of the event loop, in ms of a processor. Default 3000. */
  readonly blockedMs?: number
  /** Told of each cell as it ends. */
  readonly onCell?: (cell: FaultCell) => void
}

/** When a fault strikes. */
export interface FaultMoment {
  /** 0: before the row's work; else at its n-th moment. */
  readonly index: number
  /** `before`, or what the device was about to do: `read of BAR0 status at 0x20 (rw, 4 bytes)`. */
  readonly what: string
}

/** What was found wrong. */
export interface FaultFinding {
  readonly verdict: Verdict
  readonly message: string
}

/** One row under one fault at one moment. */
export interface FaultCell {
  readonly row: string
  /** Absent where the row runs without a fault, first of all. */
  readonly fault?: FaultName
  readonly transport: FaultTransport
  readonly moment: FaultMoment
  /** False where the row ended before its moment came: a run without a fault, then. */
  readonly struck: boolean
  /** How the row's work ended: `done`, or the code of its error. */
  readonly outcome: string
  /** None where all is well. */
  readonly findings: readonly FaultFinding[]
  readonly tookMs: number
}

/** A matrix as the processes know it, whatever its types are. */
export interface AnyMatrix {
  readonly driver: AnyDriver
  readonly definition: ModelDefinition<object>
  readonly options: FaultMatrixOptions<Uapi, object>
}

/** Rows beside the operations: what happens to every driver. */
export const lifeRows = ['probe', 'reset', 'recovery', 'remove'] as const

/** What a cell is, for the process that runs it. */
export interface CellRequest {
  readonly row: string
  readonly fault?: FaultName
  readonly transport: FaultTransport
  readonly moment: FaultMoment
  /** Whether the row asks the device for work of its own (DMA, interrupts), without which success is a lie. */
  readonly works?: boolean
}

/** What came of it. The moments are answered for a row without a fault. */
export interface CellResult {
  readonly struck: boolean
  readonly outcome: string
  readonly findings: readonly FaultFinding[]
  readonly tookMs: number
  readonly moments?: readonly Moment[]
  /** The process is of no more use: something still runs in it. */
  readonly spent: boolean
}

/** Something between a driver and its device, before which a fault can strike. */
export interface Moment {
  readonly kind: 'read' | 'write' | 'interrupt' | 'dma' | 'reset'
  readonly what: string
}
