import { eduModel } from '@uaccel/driver-edu/model'
import { npuModel } from '@uaccel/driver-npu/model'
import { nvmeModel } from '@uaccel/driver-nvme/model'
import type { Faults, ModelDefinition } from '@uaccel/model'

/** A misfortune, by its method of `Faults`. */
export type FaultName = Exclude<keyof Faults, 'attach' | `is${string}` | `take${string}`>

/** The devices that are served, and faults are tried on, each with the options of its model. */
export const models = {
  // 2^31 takes it two seconds: what is under way stays so.
  edu: [eduModel, {}],
  npu: [npuModel, { testMode: true }],
  nvme: [nvmeModel, {}],
} as unknown as Readonly<Record<DeviceName, readonly [ModelDefinition<object>, object]>>

export type DeviceName = 'edu' | 'npu' | 'nvme'
