import type { QueryAnswer } from '@uaccel/uapi'

type MaybePromise<T> = T | Promise<T>

/** A quantity from a driver: of a number with a fraction, the nearest whole one is told. */
export type Quantity = number | bigint

/** The most, or least, that the device takes. */
export interface Limit {
  /** Such as `queues` or `maxElements`. */
  readonly name: string
  readonly value: Quantity
  /** Such as `bytes`; none for a plain number. */
  readonly unit?: string
}

/** Memory of the device besides its BARs. */
export interface MemoryRegion {
  readonly name: string
  readonly sizeBytes: Quantity
  readonly usedBytes?: Quantity
  /** True where clients may map a part of it. */
  readonly mappable?: boolean
}

/** Something that executes work. */
export interface Engine {
  readonly name: string
  /** How many alike; 1 unless told. */
  readonly instances?: number
  /** How long they were busy, in sum, in nanoseconds. What it grows by gives the utilisation. */
  readonly busyNs?: Quantity
  /** Only where the device measures it itself: 0 to 1000. */
  readonly utilisationPermille?: number
  /** A value that changes while the engine works. */
  readonly heartbeat?: Quantity
}

/** The rate at which a part of the device runs, in hertz. */
export interface Clock {
  readonly name: string
  readonly hz: Quantity
  readonly maxHz?: Quantity
}

/** What the device takes. */
export interface Power {
  readonly drawnMicrowatts?: Quantity
  readonly capMicrowatts?: Quantity
  /** Since the device was powered on. */
  readonly energyMicrojoules?: Quantity
  /** Such as `D0` or `low`. */
  readonly state?: string
}

/** A measured value, in `unit` times 10 to the power of `exponent` (0 unless told). */
export interface Sensor {
  readonly name: string
  readonly kind: QueryAnswer<'sensors'>['entries'][number]['kind']
  /** Such as `C`, `V` or `rpm`. */
  readonly unit: string
  readonly exponent?: number
  readonly value: Quantity
  readonly min?: Quantity
  readonly max?: Quantity
  /** From here on the device is in danger. */
  readonly critical?: Quantity
}

/** A clock of the device, read now. */
export interface DeviceTime {
  readonly name: string
  readonly ticks: Quantity
  readonly ticksPerSecond: Quantity
}

/** What one open holds of a kind of memory, in bytes: the parts of `drm-*-<region>`. */
export interface MemoryUsage {
  readonly totalBytes: Quantity
  readonly sharedBytes?: Quantity
  readonly residentBytes?: Quantity
  readonly purgeableBytes?: Quantity
  readonly activeBytes?: Quantity
}

/** What one open uses: for the keys of DRM's fdinfo. */
export interface ClientUsage {
  /** How long each engine worked for it, in nanoseconds. */
  readonly engines?: Readonly<Record<string, Quantity>>
  readonly memory?: Readonly<Record<string, MemoryUsage>>
}

/**
 * What a driver knows of its device, for QUERY. Each is asked when a client asks, beside commands that run; one that throws or
 * takes longer than `limits.attributeMs` is the error of that query alone. What a driver does not know it leaves out.
 */
export interface Telemetry {
  /** The device's name, such as a product name. At most 64 bytes. */
  readonly name?: string
  /** Version of the firmware that it runs. At most 64 bytes. */
  readonly firmware?: string
  /** Whether the device works; operational unless told. */
  health?(): MaybePromise<{
    readonly state: 'operational' | 'needsReset' | 'malfunction'
    readonly reason?: string
  }>
  limits?(): MaybePromise<readonly Limit[]>
  memoryRegions?(): MaybePromise<readonly MemoryRegion[]>
  engines?(): MaybePromise<readonly Engine[]>
  clocks?(): MaybePromise<readonly Clock[]>
  power?(): MaybePromise<Power>
  sensors?(): MaybePromise<readonly Sensor[]>
  /** Its clocks as of now: the node reads the host's before and after. */
  time?(): MaybePromise<readonly DeviceTime[]>
  /** @param open Its id, as in `context.open.id`. */
  usage?(open: number): MaybePromise<ClientUsage>
}
