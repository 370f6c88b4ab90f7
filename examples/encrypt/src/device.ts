import { Accel } from '@uaccel/accel'
import { type ClientBuffers, type DeviceClient, openAccel, openBuffers } from '@uaccel/client'
import { type IommuKind, openVfio, parseBdf, type Transport } from '@uaccel/core'
import driver from '@uaccel/driver-virtio-crypto'
import { virtioCryptoModel } from '@uaccel/driver-virtio-crypto/model'
import { virtioCryptoUapi } from '@uaccel/driver-virtio-crypto/uapi'
import { loopback } from '@uaccel/model'
import { accelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'

export type CryptoClient = DeviceClient<typeof virtioCryptoUapi>

/** An open of a device: its commands and its memory, until `close`. */
export interface CryptoDevice {
  readonly client: CryptoClient
  readonly buffers: ClientBuffers
  close(): Promise<void>
}

/** Where a device is. */
export interface DeviceOptions {
  /** Address of a PCI device, path of a vfio-user socket, or name of a node; absent for the model in this process. */
  readonly device?: string | undefined
  /** The kernel's interface to the IOMMU, for a PCI device; by default the one that the kernel has. */
  readonly iommu?: IommuKind | undefined
  /** Where nodes are looked for; by default where the client looks. */
  readonly folder?: string | undefined
}

/**
 * Opens a crypto device. A node's driver is in another process, else it is in this one: the same words from then on. Errors:
 * `ERR_ACCEL_NO_DRIVER` for a device of another kind, `ERR_ACCEL_VERSION` for such a node, and those of the way to it.
 */
export async function openCrypto({ device, iommu, folder }: DeviceOptions = {}): Promise<CryptoDevice> {
  if (device !== undefined && !/[:/]/.test(device)) {
    const client = await openAccel(virtioCryptoUapi, device, folder === undefined ? {} : { folder })
    return { client, buffers: openBuffers(client), close: () => client.close() }
  }
  const accel = new Accel()
  try {
    accel.register(driver)
    const { name } = await accel.add(await connect(device, iommu))
    const client = accel.open(virtioCryptoUapi, name)
    return { client, buffers: openBuffers(client), close: () => accel.close() }
  } catch (error) {
    await accel.close()
    if (!isAccelError(error, 'ERR_ACCEL_NO_DRIVER')) throw error
    throw accelError('ERR_ACCEL_NO_DRIVER', `${device} is no virtio-crypto device. ${error.message}`, {
      cause: error,
    })
  }
}

async function connect(device: string | undefined, iommu: IommuKind | undefined): Promise<Transport> {
  if (device === undefined) return loopback(virtioCryptoModel)
  if (device.includes('/')) return connectVfioUser(device)
  return openVfio(parseBdf(device), { iommu: iommu ?? 'auto' })
}
