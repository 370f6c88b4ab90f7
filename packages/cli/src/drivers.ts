import type { AnyDriver } from '@uaccel/accel'
import type { RegisterMap } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { Bar0 as eduBar0 } from '@uaccel/driver-edu/registers'
import npu from '@uaccel/driver-npu'
import { NpuRegisters } from '@uaccel/driver-npu/registers'
import nvme from '@uaccel/driver-nvme'
import { NvmeRegisters } from '@uaccel/driver-nvme/registers'
import virtioCrypto from '@uaccel/driver-virtio-crypto'
import type { ModelDefinition } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'

/** What the command knows of one kind of accelerator. */
export interface Known {
  readonly driver: AnyDriver
  readonly loadModel: () => Promise<ModelDefinition>
  /** Register maps by BAR. */
  readonly bars: Readonly<Record<number, RegisterMap>>
}

/** Every accelerator that this command comes with, by its driver's name. */
export const known: Readonly<Record<string, Known>> = {
  edu: {
    driver: edu,
    loadModel: async () => (await import('@uaccel/driver-edu/model')).eduModel,
    bars: { 0: eduBar0 },
  },
  npu: {
    driver: npu,
    loadModel: async () => (await import('@uaccel/driver-npu/model')).npuModel,
    bars: { 0: NpuRegisters },
  },
  nvme: {
    driver: nvme,
    loadModel: async () => (await import('@uaccel/driver-nvme/model')).nvmeModel,
    bars: { 0: NvmeRegisters },
  },
  'virtio-crypto': {
    driver: virtioCrypto,
    loadModel: async () => (await import('@uaccel/driver-virtio-crypto/model')).virtioCryptoModel,
    bars: {}, // where its registers are, its capabilities say
  },
}

/** The accelerator of that name. `ERR_ACCEL_NOT_FOUND` where there is none. */
export function knownByName(name: string): Known {
  const found = Object.hasOwn(known, name) ? known[name] : undefined
  if (found) return found
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `There is no model or driver "${name}"; there are ${Object.keys(known).join(', ')}.`,
  )
}

/** What drivers know a device by. */
export type Ids =
  | { readonly bus: 'pci'; readonly vendor: number; readonly device: number }
  | { readonly bus: 'platform'; readonly name: string }

/** The accelerator whose driver takes a device of these ids. */
export function knownById(ids: Ids): { name: string; known: Known } | undefined {
  const entry = Object.entries(known).find(([, { driver }]) =>
    driver.ids.some((id) =>
      id.bus === 'platform' || ids.bus === 'platform'
        ? 'name' in id && 'name' in ids && id.name === ids.name
        : id.vendor === ids.vendor && id.device === ids.device,
    ),
  )
  return entry && { name: entry[0], known: entry[1] }
}
