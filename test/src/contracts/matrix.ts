/** The columns of the table: ways to a device. */
export const columns = {
  loopback: 'loopback',
  'vfio-user': 'vfio-user',
  type1: 'VFIO, group and type 1',
  iommufd: 'VFIO, cdev and iommufd',
  uio: 'UIO',
  noiommu: 'VFIO without IOMMU',
  'vfio-user-pci': 'vfio-user-pci in a guest',
} as const
export type Column = keyof typeof columns

/** The rows: contract suites. */
export const suites = {
  transport: 'what every transport does',
  edu: 'edu driver',
  npu: 'NPU driver',
  queues: 'NPU queues in four worker threads',
  nvme: 'NVMe driver',
  intx: 'INTx, edu',
  msi: 'MSI, edu',
  msix: 'MSI-X, NPU',
  reset: 'resets, edu and NPU',
  removal: 'removal, edu',
} as const
export type Suite = keyof typeof suites

/** The cells that are not run, and why. All others have to pass. */
export const impossible: Readonly<Partial<Record<Suite, Partial<Record<Column, string>>>>> = {
  msi: { uio: 'UIO passes on INTx only.' },
  msix: { uio: 'UIO passes on INTx only.' },
}
