import { isAccelError } from '@uaccel/uapi'
import type { Accelerator } from './accelerator.js'
import { MLContext } from './context.js'
import { findAccelerator, openAccelerator } from './device.js'
import { planBackend } from './plan/backend.js'
import { boolean, type Converter, dictionary, enumeration, exposeInterface, usvString } from './web-idl.js'

export type MLPowerPreference = 'default' | 'high-performance' | 'low-power'

/** `MLContextOptions`, and what a program outside of a browser may choose besides. */
export interface MLContextOptions {
  /** Is taken, and changes nothing: there is one way to run a graph on each device. */
  powerPreference?: MLPowerPreference
  /** `false` asks for the CPU. */
  accelerated?: boolean
  /**
   * Not in the specification: the kind of device. Without it, and without `device`, it is the CPU. `npu` is the first node with an
   * accelerator; nothing here runs on a `gpu`, which is a `NotSupportedError`.
   */
  deviceType?: 'cpu' | 'gpu' | 'npu'
  /** Not in the specification: the name of a node (`accel0`), the path of its socket, or an accelerator, which the context closes at its end. */
  device?: string | Accelerator
}

const toDevice: Converter<string | Accelerator> = (value, what) => {
  if (typeof value !== 'object' || value === null) return usvString(value, what)
  for (const member of ['allocate', 'prepare', 'close'])
    if (typeof (value as Record<string, unknown>)[member] !== 'function')
      throw new TypeError(
        `${what}: the name of a node or an Accelerator is wanted, found an object without ${member}`,
      )
  return value as Accelerator
}

const toOptions = dictionary({
  powerPreference: { convert: enumeration('default', 'high-performance', 'low-power'), default: 'default' },
  accelerated: { convert: boolean, default: true },
  deviceType: { convert: enumeration('cpu', 'gpu', 'npu') },
  device: { convert: toDevice },
})

/** `ML`: what `navigator.ml` is in a browser. */
export class ML {
  static {
    exposeInterface(ML)
  }

  /**
   * A context on the device that was asked for.
   *
   * Errors: `TypeError` of options that contradict each other or are none; `NotSupportedError` where there is no such device, its
   * driver has no accelerator, or it cannot be opened, with the error of uaccel (`ERR_ACCEL_*`) as `cause`.
   */
  async createContext(options: MLContextOptions = {}): Promise<MLContext> {
    const { accelerated, deviceType, device } = toOptions(
      options,
      'createContext: options',
    ) as MLContextOptions
    const conflict = (with_: string, what: string) =>
      new TypeError(`createContext: options.${what} contradicts options.${with_}: leave out one of them`)
    const wantsCpu =
      deviceType === 'cpu' ? 'deviceType "cpu"' : accelerated === false ? 'accelerated false' : undefined
    if (wantsCpu !== undefined && device !== undefined) throw conflict('device', wantsCpu)
    if (accelerated === false && deviceType !== undefined && deviceType !== 'cpu')
      throw conflict(`deviceType "${deviceType}"`, 'accelerated false')
    if (deviceType === 'gpu' && device !== undefined) throw conflict('device', 'deviceType "gpu"')
    if (deviceType === 'gpu') throw notSupported('there is no way to a GPU here; deviceType wants cpu or npu')
    if (device === undefined && deviceType !== 'npu') return new MLContext(planBackend())
    try {
      if (typeof device === 'object') return new MLContext(planBackend(device))
      return new MLContext(
        planBackend(await (device === undefined ? findAccelerator() : openAccelerator(device))),
      )
    } catch (cause) {
      if (!isAccelError(cause)) throw cause
      throw notSupported(cause.message, cause)
    }
  }
}

const notSupported = (message: string, cause?: Error) => {
  const error = new DOMException(`createContext: ${message}`, 'NotSupportedError')
  return cause === undefined ? error : Object.assign(error, { cause })
}

export const ml = new ML()
