import { Device, type DeviceOptions, type Transport } from '@uaccel/core'
import { type FirmwareOptions, loadFirmware } from './firmware.js'

/** The device as a driver's `probe` gets it: what is taken from it is released in reverse order, whatever happens. */
export class AccelDevice extends Device {
  readonly #firmwarePath: readonly string[]

  /** @internal */
  constructor(transport: Transport, options: DeviceOptions, firmwarePath: readonly string[]) {
    super(transport, options)
    this.#firmwarePath = firmwarePath
  }

  /** Reads a firmware file from the search path; see `loadFirmware`. */
  firmware(name: string, options: FirmwareOptions = {}): Promise<Uint8Array> {
    return loadFirmware(name, options, this.#firmwarePath)
  }
}
