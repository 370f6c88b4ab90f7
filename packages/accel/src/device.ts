import { Device, type DeviceOptions, type Transport } from '@uaccel/core'
import type { DeviceEvent } from './events.js'
import { type FirmwareOptions, loadFirmware } from './firmware.js'

/** The device as a driver's `probe` gets it: what is taken from it is released in reverse order, whatever happens. */
export class AccelDevice extends Device {
  readonly #firmwarePath: readonly string[]
  readonly #publish: (event: DeviceEvent) => void

  /** @internal */
  constructor(
    transport: Transport,
    options: DeviceOptions,
    firmwarePath: readonly string[],
    publish: (event: DeviceEvent) => void,
  ) {
    super(transport, options)
    this.#firmwarePath = firmwarePath
    this.#publish = publish
  }

  /** Tells all who have the device open of something that no command of theirs is told of: command `events`. */
  publish(event: DeviceEvent): void {
    this.#publish(event)
  }

  /** Reads a firmware file from the search path; see `loadFirmware`. */
  firmware(name: string, options: FirmwareOptions = {}): Promise<Uint8Array> {
    return loadFirmware(name, options, this.#firmwarePath)
  }
}
