import { PhysicalMapper } from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import { type NoIommuOptions, requireConsent, taint } from '../no-iommu.js'
import type { Transport } from '../transport.js'
import { MappedAccess } from './access.js'
import { openUioNode } from './node.js'
import { findUioDevice, type UioMap } from './sysfs.js'
import { allRegions, type UioLine, type UioRegion, UioTransport } from './transport.js'

/** How a device is opened. */
export interface PlatformOptions extends NoIommuOptions {
  /** Where sysfs is mounted; default `/sys`. */
  readonly sysfs?: string
  /** Where device nodes are; default `/dev`. */
  readonly devfs?: string
}

/**
 * Opens a device of a SoC or FPGA, or any other that a kernel driver hands out through UIO (uio_pdrv_genirq and others):
 * its maps are the regions 0 to 4, its interrupt is `intx`. As root, unless the node was given to this user.
 *
 * @param name As the kernel's driver names it (`/sys/class/uio/uioN/name`), or `uioN`.
 * Errors, each with what to do: `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_NO_IOMMU` without `allowNoIommu`, `ERR_ACCEL_PERMISSION`,
 * `ERR_ACCEL_BUSY`.
 */
export async function openPlatform(name: string, options: PlatformOptions = {}): Promise<Transport> {
  const { sysfs = '/sys', devfs = '/dev' } = options
  const device = findUioDevice(name, sysfs)
  const address = `uio:${name}`
  const what = `UIO device ${device.name} (${device.uio})`
  requireConsent(what, options, 'UIO has no way to an IOMMU')
  const node = openUioNode(devfs, device.uio, what)
  try {
    const regions = device.maps.map((map) => [map.index, mapRegion(map, node, device.name)] as const)
    return new UioTransport(node, device.events, {
      identity: { kind: 'uio', address, iommu: 'none', tainted: taint(what) },
      platform: { name: device.name, version: device.version },
      regions: allRegions(new Map(regions)),
      line: irqControl(node),
      dma: new PhysicalMapper(),
    })
  } catch (error) {
    sys.close(node)
    throw error
  }
}

/**
 * The driver's own way to mask the line, a written 1 or 0 (uio_write in drivers/uio/uio.c). ENOSYS: the driver has none, and its
 * handler has quieted the device itself.
 */
function irqControl(node: number): UioLine {
  const value = new Int32Array(1)
  const bytes = new Uint8Array(value.buffer)
  let offered = true
  const write = (on: 0 | 1) => {
    if (!offered) return // an error for each interrupt would cost more than handling it
    value[0] = on
    try {
      sys.write(node, bytes)
    } catch (error) {
      if (!isAccelError(error) || error.errno !== 'ENOSYS') throw error
      offered = false
    }
  }
  return { mask: () => write(0), unmask: () => write(1) }
}

function mapRegion(map: UioMap, node: number, name: string): Omit<UioRegion, 'index'> {
  const page = abi.PAGE_SIZE_BYTES
  const sizeBytes = map.sizeBytes - map.offset
  const label = `map ${map.index} of ${name}`
  if (map.offset % 8 !== 0) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${label} begins ${map.offset} bytes into its page: registers of 64 bits could not be reached in one access`,
    )
  }
  const whole = Math.floor(sizeBytes / page) * page
  return {
    sizeBytes,
    readable: true,
    writable: true,
    // What does not begin with its page shares that with others.
    mappable: map.offset !== 0 || whole === 0 ? [] : [{ offset: 0, sizeBytes: whole }],
    access: new MappedAccess({
      region: map.index,
      label,
      sizeBytes,
      open: () => sys.dup(node),
      // N pages into the file is map N, from its start (uio_find_mem_index in drivers/uio/uio.c).
      fileOffset: map.index * page,
      inPage: map.offset,
      whole: true,
    }),
  }
}
