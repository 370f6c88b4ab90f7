import { writeFileSync } from 'node:fs'
import { type PciDeviceInfo, readPciDevice } from '@uaccel/core'

/** Hands a PCI device to another kernel driver, as the commands in an error do. */
export function rebind(bdf: string, driver: string): PciDeviceInfo {
  const folder = `/sys/bus/pci/devices/${bdf}`
  if (readPciDevice(bdf).driver !== undefined) writeFileSync(`${folder}/driver/unbind`, bdf)
  writeFileSync(`${folder}/driver_override`, driver)
  writeFileSync('/sys/bus/pci/drivers_probe', bdf)
  return readPciDevice(bdf)
}
