import { Accel } from '@uaccel/accel'
import { type ClientBuffers, type DeviceClient, openAccel, openBuffers } from '@uaccel/client'
import { type IommuKind, openVfio, parseBdf, type Transport } from '@uaccel/core'
import driver from '@uaccel/driver-nvme'
import { type NvmeOptions, nvmeModel } from '@uaccel/driver-nvme/model'
import { nvmeUapi } from '@uaccel/driver-nvme/uapi'
import { loopback } from '@uaccel/model'
import { accelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'

export type NvmeClient = DeviceClient<typeof nvmeUapi>

/** Of the model's disk. */
const BLOCK_BYTES = 512

/** An open of a device: its commands and its memory, until `close`. */
export interface NvmeDevice {
  readonly client: NvmeClient
  readonly buffers: ClientBuffers
  close(): Promise<void>
}

/** Where a device is. */
export interface DeviceOptions {
  /** Address of a PCI device, path of a vfio-user socket, or name of a node; absent for the model in this process. */
  readonly device?: string | undefined
  /** What is on the model's disk. */
  readonly disk?: Uint8Array | undefined
  /** The kernel's interface to the IOMMU, for a PCI device; by default the one that the kernel has. */
  readonly iommu?: IommuKind | undefined
  /** Where nodes are looked for; by default where the client looks. */
  readonly folder?: string | undefined
}

/**
 * Opens an NVMe controller. A node's driver is in another process, else it is in this one: the same words from then on. Errors:
 * `ERR_ACCEL_NO_DRIVER` for a device of another kind, `ERR_ACCEL_VERSION` for such a node, and those of the way to it.
 */
export async function openNvme({ device, disk, iommu, folder }: DeviceOptions): Promise<NvmeDevice> {
  if (device !== undefined && !/[:/]/.test(device)) {
    const client = await openAccel(nvmeUapi, device, folder === undefined ? {} : { folder })
    return { client, buffers: openBuffers(client), close: () => client.close() }
  }
  const accel = new Accel()
  try {
    accel.register(driver)
    const { name } = await accel.add(await connect({ device, disk, iommu }))
    const client = accel.open(nvmeUapi, name)
    return { client, buffers: openBuffers(client), close: () => accel.close() }
  } catch (error) {
    await accel.close()
    if (!isAccelError(error, 'ERR_ACCEL_NO_DRIVER')) throw error
    throw accelError('ERR_ACCEL_NO_DRIVER', `${device} is no NVMe controller. ${error.message}`, {
      cause: error,
    })
  }
}

async function connect({ device, disk, iommu }: DeviceOptions): Promise<Transport> {
  if (device === undefined) return loopback(nvmeModel, { model: withDisk(disk) })
  if (device.includes('/')) return connectVfioUser(device)
  return openVfio(parseBdf(device), { iommu: iommu ?? 'auto' })
}

/** What the model is told for a disk with these bytes, of which the last may be no whole block. */
export function withDisk(bytes: Uint8Array = new Uint8Array()): NvmeOptions {
  const blocks = Math.max(1, Math.ceil(bytes.length / BLOCK_BYTES))
  const disk = bytes.length === blocks * BLOCK_BYTES ? bytes : new Uint8Array(blocks * BLOCK_BYTES)
  if (disk !== bytes) disk.set(bytes)
  return { namespaces: [{ blocks, blockBytes: BLOCK_BYTES, contents: disk }] }
}
