import { abi } from '@uaccel/sys'
import { isAccelError } from '@uaccel/uapi'
import type { Area } from '../transport.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'

const getDmaBuf = vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF

/** True where the kernel can make dma-bufs of this device's BARs: from 6.19 on, with CONFIG_PCI_P2PDMA. */
export function exportsBars(calls: VfioCalls, fd: number): boolean {
  const request = Buffer.alloc(vfio.featureBytes)
  request.writeUInt32LE(request.length, 0)
  request.writeUInt32LE(getDmaBuf | vfio.VFIO_DEVICE_FEATURE_PROBE, 4)
  try {
    calls.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, request, 'VFIO_DEVICE_FEATURE: probe of dma-bufs')
    return true
  } catch (error) {
    if (!isAccelError(error, 'ERR_ACCEL_SYSTEM')) throw error
    return false // ENOTTY, EOPNOTSUPP or EINVAL
  }
}

/** Makes a dma-buf of a part of a BAR, whole pages, and answers its descriptor. */
export function exportBar(calls: VfioCalls, fd: number, region: number, { offset, sizeBytes }: Area): number {
  const request = Buffer.alloc(vfio.featureBytes + vfio.featureDmaBufBytes)
  request.writeUInt32LE(request.length, 0)
  request.writeUInt32LE(getDmaBuf, 4)
  const dmaBuf = request.subarray(vfio.featureBytes)
  dmaBuf.writeUInt32LE(region, 0)
  dmaBuf.writeUInt32LE(abi.O_RDWR | abi.O_CLOEXEC, 4)
  // One range: iommufd takes no dma-buf of several (vfio_pci_dma_buf_iommufd_map in vfio_pci_dmabuf.c).
  dmaBuf.writeUInt32LE(1, 12)
  dmaBuf.writeBigUInt64LE(BigInt(offset), 16)
  dmaBuf.writeBigUInt64LE(BigInt(sizeBytes), 24)
  return calls.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, request, `VFIO_DEVICE_FEATURE: dma-buf of BAR ${region}`)
}
