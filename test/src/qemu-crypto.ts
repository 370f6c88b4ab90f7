/** QEMU's own crypto, for its virtio-crypto device (-object of qemu-system-x86_64). */
export const cryptoBackend = ['-object', 'cryptodev-backend-builtin,id=c0']

/** QEMU's virtio-crypto device, `crypto` in UACCEL_LAB_DEVICES; behind the IOMMU, or around it. */
export const cryptoDevice = (translated: boolean) =>
  `crypto=virtio-crypto-pci,cryptodev=c0,disable-legacy=on,iommu_platform=${translated ? 'on' : 'off'}`
