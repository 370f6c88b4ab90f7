import {
  accelError,
  type CommandDefinitions,
  type CommandReply,
  type CommandRequest,
  type CommandsOf,
  type Uapi,
} from '@uaccel/uapi'
import type { AttributeDefinitions } from './attributes.js'
import type { AccelDevice } from './device.js'
import type { DmaTester } from './dma-test.js'
import { checkId, type DeviceId } from './ids.js'
import type { Job } from './job.js'
import type { OpenRights } from './open.js'
import type { Telemetry } from './telemetry.js'
import type { UserQueues } from './user-queue.js'

/** Who is at the other end of a node's socket, as it was when it connected (SO_PEERCRED, unix(7)). */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** One open of a device. Handles, contexts and queues belong to it and go with it. */
export interface OpenContext {
  /** Unique within the device's life; for messages. */
  readonly id: number
  /** Whose open it is; absent for one of the driver's own process. */
  readonly peer?: PeerCredentials | undefined
  /** What it may do: a driver asks for commands that are not for everybody. */
  readonly rights: OpenRights
  /** Aborted when the open closes. */
  readonly signal: AbortSignal
  /** Runs `release` when the open goes, after the open's commands have ended: last registered, first run. */
  defer(release: () => void | Promise<void>): void
}

/** What a command's handler gets besides its input. */
export interface CommandContext {
  /**
   * Aborted when the caller withdraws the call, its limit passes, its open closes or the device goes. The handler
   * ends soon after; then `recover` brings the hardware to idle.
   */
  readonly signal: AbortSignal
  readonly open: OpenContext
}

type MaybePromise<T> = T | Promise<T>
/** A command without output may answer nothing. */
type Reply<R> = keyof R extends never ? MaybePromise<R | undefined> : MaybePromise<R>

/**
 * A handler for each command of the uAPI. Descriptors of a request are the caller's, and stay open until the handler has ended:
 * one that is to be kept is duplicated. Those of an answer are given away: they are closed once they were sent, or when nobody
 * waits for them any more.
 */
export type CommandHandlers<U extends Uapi> = {
  readonly [K in keyof CommandsOf<U>]: (
    request: CommandRequest<U, K>,
    context: CommandContext,
  ) => Reply<CommandReply<U, K>>
}

/** What `probe` answers. */
export interface Probed<U extends Uapi> {
  readonly commands: CommandHandlers<U>
  /**
   * Runs a job of a client: `payload` says what, `ranges` is all that the device may touch for it. It settles when the device is done
   * with that memory, however the job ended: until then nobody else gets it. An error that leaves that open (ERR_ACCEL_TIMEOUT,
   * ERR_ACCEL_ABORTED, one with `details.idle` false, whatever is no `AccelError`) has the device recovered first. Jobs do not
   * wait for commands. `signal` says that nobody wants the job any more; ending it early is the driver's choice. A driver with this
   * has used `dev.dma` in its probe, before it deferred what brings the device to rest. Without it SUBMIT is refused.
   */
  submit?(job: Job, context: CommandContext): MaybePromise<void>
  /** Queues that clients fill themselves, for a driver whose device has some to give. Without it QUEUE_CREATE is refused. */
  readonly queues?: UserQueues
  /** How many jobs `submit` takes at once. 1 unless told. */
  readonly depth?: number
  /**
   * Brings the hardware to idle after a command or job that was aborted, timed out or broke; the next waits for it.
   * Without it, or where it throws, the device is reset.
   */
  recover?(context: { readonly signal: AbortSignal }): MaybePromise<void>
  /**
   * The device is about to be reset, if it is not dead already: end what is under way. No command runs, none begins before
   * `afterReset` has ended. With both, what opens hold in the driver lasts over a reset; without, or where one throws, the device
   * is released and probed again.
   */
  beforeReset?(context: { readonly signal: AbortSignal }): MaybePromise<void>
  /** The device was reset to its power-on state; BARs, interrupts and memory that were taken still serve. Bring it up again. */
  afterReset?(context: { readonly signal: AbortSignal }): MaybePromise<void>
  /** How the device copies memory, where it can: `uaccel dma-test` and `testDma` walk buffers through it. Nobody else uses it. */
  readonly dmaTest?: DmaTester
  /** What the driver knows of its device, for command `query`. */
  readonly telemetry?: Telemetry
  /** The driver's own attributes, by path such as `queues/inUse`, besides those that every device has. */
  readonly attributes?: AttributeDefinitions
}

/** A driver as its author writes it. */
export interface DriverDefinition<U extends Uapi> {
  readonly name: string
  /** Of the driver, for people. */
  readonly version?: string
  readonly uapi: U
  readonly ids: readonly DeviceId[]
  probe(dev: AccelDevice): MaybePromise<Probed<U>>
}

/** A driver that can be registered. */
export type AccelDriver<U extends Uapi = Uapi> = DriverDefinition<U>

/** Any driver, for lists of them. */
export type AnyDriver = Pick<AccelDriver, 'name' | 'version' | 'uapi' | 'ids'> & {
  probe(dev: AccelDevice): MaybePromise<Probed<never>>
}

/**
 * Defines a driver: which devices it takes, what it offers, and how it brings one up.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT a name or id that cannot work
 */
export function accelDriver<C extends CommandDefinitions>(
  definition: DriverDefinition<Uapi<C>>,
): AccelDriver<Uapi<C>> {
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(definition.name)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${definition.name}" is not a driver name: a-z, 0-9 and -, at most 31 of them`,
    )
  }
  if (definition.ids.length === 0) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `Driver ${definition.name} has no ids: it would match nothing`,
    )
  }
  for (const id of definition.ids) checkId(id, definition.name)
  return definition
}
