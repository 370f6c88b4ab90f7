import { closeSync, existsSync, openSync, readdirSync } from 'node:fs'
import { type SystemCalls, systemError } from '@uaccel/sys'
import t from 'tap'
import { DmaBuffer } from './buffer.js'
import { createUdmabuf, DmaBuf, decodeDmaBuf } from './dma-buf.js'

const openFds = () => readdirSync('/proc/self/fd').length
/** As dma_buf_show_fdinfo writes it. */
const fdinfo = (size: number | string, exporter: string, name = '') =>
  `pos:\t0\nflags:\t02000002\nmnt_id:\t12\nino:\t3\nsize:\t${size}\ncount:\t1\nexp_name:\t${exporter}\n${name}`

t.test('what the kernel tells of a dma-buf', async (t) => {
  const decode = (info: string, target = '/dmabuf:') => decodeDmaBuf(target, info)
  t.same(decode(fdinfo(1 << 20, 'vfio_pci_core')), { sizeBytes: 1 << 20, exporter: 'vfio_pci_core' })
  t.same(
    decode(fdinfo(4096, 'linux,cma')),
    { sizeBytes: 4096, exporter: 'linux,cma' },
    'heaps are named by the device tree',
  )
  const forged = fdinfo(4096, 'vfio_pci_core', 'name:\tx\nsize:\t9999999\ncount:\t1\nexp_name:\tudmabuf\n')
  t.same(
    decode(forged, '/dmabuf:x'),
    { sizeBytes: 4096, exporter: 'vfio_pci_core' },
    'a name is not believed',
  )
  for (const [info, target] of [
    [fdinfo(4096, 'udmabuf'), '/tmp/dmabuf:'],
    [fdinfo(4096, 'udmabuf'), '/memfd:dmabuf: (deleted)'],
    ['pos:\t0\nflags:\t02\nmnt_id:\t12\nino:\t3\n', '/dmabuf:'],
    [fdinfo(0, 'udmabuf'), '/dmabuf:'],
    [fdinfo('99999999999999999999', 'udmabuf'), '/dmabuf:'],
  ] as const)
    t.equal(decode(info, target), undefined)
})

t.test('what is no dma-buf is not taken over', async (t) => {
  const buffer = DmaBuffer.create(4096, { name: 'dmabuf:' })
  const file = openSync('/dev/null', 'r+')
  const before = openFds()
  for (const fd of [buffer.fd, file])
    t.throws(() => DmaBuf.adopt(fd), {
      code: 'ERR_ACCEL_INVALID_ARGUMENT',
      message: /was to be a dma-buf, and is \//,
    })
  for (const fd of [-1, 999_999, 1.5, Number.NaN])
    t.throws(() => DmaBuf.adopt(fd), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /no open descriptor/ })
  t.equal(openFds(), before)
  closeSync(file)
  buffer.destroy()
})

t.test('host memory as a dma-buf: the request, and what is in the way', async (t) => {
  const buffer = DmaBuffer.create(8192)
  const requests: unknown[] = []
  const closed: number[] = []
  const answer = { open: 900 as number, ioctl: 901 as number }
  const calls = {
    open(path: string, flags: number) {
      if (answer.open < 0) throw systemError('open', answer.open, path)
      requests.push([path, flags])
      return answer.open
    },
    ioctl(fd: number, request: number, arg: Uint8Array) {
      requests.push([fd, request, Buffer.from(arg).toString('hex')])
      if (answer.ioctl < 0) throw systemError('ioctl', answer.ioctl, 'UDMABUF_CREATE')
      return answer.ioctl
    },
    close: (fd: number) => void closed.push(fd),
  } as unknown as SystemCalls
  // This kernel's answer is no dma-buf, which is noticed, and closed.
  t.throws(() => createUdmabuf(7, 8192, calls), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const words = Buffer.alloc(24)
  words.writeUInt32LE(7, 0)
  words.writeUInt32LE(1, 4) // close-on-exec
  words.writeBigUInt64LE(8192n, 16)
  // _IOW('u', 0x42, 24 bytes): direction 1 << 30, size << 16
  const create = ((1 << 30) | (24 << 16) | (0x75 << 8) | 0x42) >>> 0
  t.same(requests, [
    ['/dev/udmabuf', 2],
    [900, create, words.toString('hex')],
  ])
  t.same(closed, [901, 900])
  answer.ioctl = -12
  t.throws(() => createUdmabuf(7, 8192, calls), { code: 'ERR_ACCEL_NO_MEMORY' })
  t.same(closed, [901, 900, 900])
  for (const [errno, code, message] of [
    [-2, 'ERR_ACCEL_UNSUPPORTED', /modprobe udmabuf/],
    [-13, 'ERR_ACCEL_PERMISSION', /chown USER \/dev\/udmabuf/],
    [-24, 'ERR_ACCEL_SYSTEM', /EMFILE/],
  ] as const) {
    answer.open = errno
    t.throws(() => createUdmabuf(7, 8192, calls), { code, message })
  }
  if (!existsSync('/dev/udmabuf')) t.throws(() => buffer.exportDmaBuf(), { code: 'ERR_ACCEL_UNSUPPORTED' })
  buffer.destroy()
  t.throws(() => buffer.exportDmaBuf(), { code: 'ERR_ACCEL_REVOKED' })
})
