import type { RegisterMap } from '@uaccel/core'

/** How a session is replayed. */
export interface ReplayOptions {
  /**
   * Every access, of BARs and of configuration space as far as it is written, comes as it was recorded, and as often. Default false: reads
   * between two writes come in any order, one that was read before may be read again, one of several in a row may be left out; mappings and
   * masks come when they do.
   */
  readonly strict?: boolean
  /**
   * When the device does what it did. `soon`, the default, as soon as the driver has come for it; `recorded`: not sooner after the driver's last
   * write than in the recording, for tests in which a driver gives up, or watches the clock.
   */
  readonly timing?: 'soon' | 'recorded'
  /** Register maps by BAR, for names in errors: in the place of those in the recording. Those that the driver maps its BARs with come first. */
  readonly registers?: Readonly<Record<number, RegisterMap>>
  /** Refuse memory that its owner can shrink (see `DmaSpaceOptions` of `@uaccel/model`). Default true. */
  readonly requireSealed?: boolean
}
