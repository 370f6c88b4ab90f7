import { readFileSync } from 'node:fs'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PhysicalMapper } from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { type NoIommuOptions, requireConsent, taint } from '../no-iommu.js'
import { pciCommand, pciConfig } from '../pci/constants.js'
import { wrongDriver } from '../pci/driver.js'
import { type PciDeviceInfo, type PciResource, readPciDevice } from '../pci/sysfs.js'
import { PciRegion, type Transport } from '../transport.js'
import { within } from '../vfio/calls.js'
import { FileAccess, MappedAccess } from './access.js'
import { openUioNode } from './node.js'
import { uioOfPci } from './sysfs.js'
import { allRegions, type UioLine, type UioRegion, UioTransport } from './transport.js'

/** How a device is opened. */
export interface UioOptions extends NoIommuOptions {
  /** Default 30,000. */
  readonly resetTimeoutMs?: number
  /** Where sysfs is mounted; default `/sys`. */
  readonly sysfs?: string
  /** Where device nodes are; default `/dev`. */
  readonly devfs?: string
}

/**
 * Opens a PCI device that is bound to uio_pci_generic: for machines without an IOMMU, and as root. It has its BARs, config
 * space and the interrupt line; DMA goes to huge pages. Binds and unbinds nothing.
 *
 * While it is open, a device that is pulled out ends this process at the next access to a mapped BAR (SIGBUS).
 *
 * Errors, each with what to do: `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_NO_IOMMU` without `allowNoIommu`, `ERR_ACCEL_WRONG_DRIVER`,
 * `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_BUSY`.
 */
export async function openUio(address: string, options: UioOptions = {}): Promise<Transport> {
  const { resetTimeoutMs = 30_000, sysfs = '/sys', devfs = '/dev' } = options
  const device = readPciDevice(address, { sysfs })
  const { bdf } = device
  const what = `PCI device ${bdf}`
  requireConsent(
    `${what} behind UIO`,
    options,
    'On a machine with an IOMMU, bind it to vfio-pci and open it with openVfio()',
  )
  const uio = device.driver === 'uio_pci_generic' ? uioOfPci(sysfs, bdf) : undefined
  if (uio === undefined) throw wrongDriver(device, 'uio_pci_generic', sysfs)
  const folder = join(sysfs, 'bus/pci/devices', bdf)
  const resetFile = join(folder, 'reset')
  const resettable = await access(resetFile).then(
    () => true,
    () => false,
  )
  const node = openUioNode(devfs, uio.uio, what)
  let config: FileAccess | undefined
  const regions = new Map<number, Omit<UioRegion, 'index'>>()
  try {
    const space = openFile(join(folder, 'config'))
    config = new FileAccess(space.fd, space.sizeBytes, `config space of ${bdf}`)
    const readWrite = { readable: true, writable: true }
    for (const bar of device.bars) regions.set(bar.index, barRegion(bar, folder, bdf))
    regions.set(PciRegion.CONFIG, { ...readWrite, sizeBytes: space.sizeBytes, mappable: [], access: config })
    const reset = async (checkAlive: () => void) => {
      const limit = within(resetTimeoutMs, `the reset of ${bdf}`, writeFile(resetFile, '1'))
      await limit.catch((cause: NodeJS.ErrnoException) => {
        if (cause.syscall === undefined) throw cause
        throw accelError('ERR_ACCEL_IO', `the kernel could not reset ${bdf}: ${cause.code}`, { cause })
      })
      checkAlive() // another file may have the descriptor's number then
      // All ones: nothing answers on the bus (PCI Local Bus 3.0, 6.1).
      if (config!.read(pciConfig.vendor, 2) !== 0xffff) return
      throw accelError(
        'ERR_ACCEL_WEDGED',
        `${bdf} does not answer after its reset: its vendor id reads 0xffff`,
      )
    }
    return new UioTransport(node, uio.events, {
      identity: { kind: 'uio', address: bdf, iommu: 'none', tainted: taint(what) },
      regions: allRegions(regions),
      line: intxDisable(config),
      dma: new PhysicalMapper({ blocked: translated(device, folder) }),
      ...(resettable && { reset }),
    })
  } catch (error) {
    for (const { access } of regions.values()) if (access !== config) access?.close()
    config?.close()
    sys.close(node)
    throw error
  }
}

/**
 * The kernel sets the Interrupt Disable bit of the command register when the line fires (drivers/uio/uio_pci_generic.c,
 * PCI Local Bus 3.0, 6.2.2) and leaves clearing it to us.
 */
function intxDisable(config: FileAccess): UioLine {
  const command = () => config.read(pciConfig.command, 2)
  return {
    mask: () => config.write(pciConfig.command, 2, command() | pciCommand.intxDisable),
    unmask: () => config.write(pciConfig.command, 2, command() & ~pciCommand.intxDisable),
  }
}

function openFile(path: string): { readonly fd: number; readonly sizeBytes: number } {
  const fd = sys.open(path, abi.O_RDWR)
  return { fd, sizeBytes: sys.fstat(fd).sizeBytes }
}

function barRegion(bar: PciResource, folder: string, bdf: string): Omit<UioRegion, 'index'> {
  const { index, sizeBytes } = bar
  const path = join(folder, `resource${index}`)
  const label = `BAR ${index} of ${bdf}`
  const about = { sizeBytes, readable: true, writable: true }
  if (bar.kind === 'io') {
    return { ...about, mappable: [], access: new FileAccess(sys.open(path, abi.O_RDWR), sizeBytes, label) }
  }
  const page = abi.PAGE_SIZE_BYTES
  return {
    ...about,
    // A BAR that is smaller shares its page with others.
    mappable: sizeBytes < page ? [] : [{ offset: 0, sizeBytes }],
    access: new MappedAccess({
      region: index,
      label,
      sizeBytes,
      open: () => sys.open(path, abi.O_RDWR),
      fileOffset: 0,
      inPage: Number(bar.address % BigInt(page)),
      whole: false,
    }),
  }
}

/** Why physical addresses do not reach memory, where an IOMMU is there after all and translates for the kernel. */
function translated({ bdf, iommuGroup }: PciDeviceInfo, folder: string): string | undefined {
  if (iommuGroup === undefined) return undefined
  let type: string
  try {
    type = readFileSync(join(folder, 'iommu_group/type'), 'latin1').trim()
  } catch {
    return undefined
  }
  // Documentation/ABI/testing/sysfs-kernel-iommu_groups
  if (type === 'identity') return undefined
  return (
    `${bdf} stands behind an IOMMU (group ${iommuGroup.id}, domain ${type}) that lets it reach no memory of this process through UIO: ` +
    'bind it to vfio-pci and open it with openVfio()'
  )
}
