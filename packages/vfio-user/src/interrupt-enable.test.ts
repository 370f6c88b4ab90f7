import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type IrqType, openDevice, PciRegion } from '@uaccel/core'
import { EventFd } from '@uaccel/sys'
import t from 'tap'
import { connectVfioUser } from './client.js'
import { Command, commandName, encodeVersion } from './protocol.js'
import type { ScriptedReply } from './scripted.test.process.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-interrupts-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const MSIX = 0x40
const MSI = 0x60
/** A place in config space that nothing else writes. */
const ASKED = 0x3c

/** Config space of a device with MSI-X (4 vectors, masked as a whole) and MSI (8 vectors, 64-bit): PCI 3.0, 6.8.1 and 6.8.2. */
function configSpace(): Buffer {
  const bytes = Buffer.alloc(256)
  bytes.writeUInt16LE(0x0010, 0x06) // there are capabilities
  bytes[0x34] = MSIX
  bytes.writeUInt32LE(0x4003_0011 | (MSI << 8), MSIX)
  bytes.writeUInt32LE(0x0086_0005, MSI)
  return bytes
}

const words = (...values: number[]) => {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, i) => void bytes.writeUInt32LE(value, 4 * i))
  return bytes.toString('hex')
}

/** A device of nothing but a config space, and 1, 8 and 4 vectors of INTx, MSI and MSI-X. */
function script(config: Buffer, statusErrno: number): ScriptedReply[] {
  const CONFIG_READ = words(0, 0, PciRegion.CONFIG, config.length)
  const STATUS_READ = words(6, 0, PciRegion.CONFIG, 2)
  return [
    {
      command: Command.VERSION,
      key: '',
      reply: encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 }).toString('hex'),
    },
    { command: Command.DEVICE_GET_INFO, key: '', reply: words(16, 3, 9, 5) },
    ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map((index) => ({
      command: Command.DEVICE_GET_REGION_INFO,
      key: words(32, 0, index),
      reply: words(32, 3, index, 0, index === PciRegion.CONFIG ? config.length : 0, 0, 0, 0),
    })),
    ...[1, 8, 4, 1, 1].map((count, index) => ({
      command: Command.DEVICE_GET_IRQ_INFO,
      key: words(16, 0, index),
      reply: words(16, 1, index, count),
    })),
    {
      command: Command.REGION_READ,
      key: STATUS_READ,
      reply: STATUS_READ + config.subarray(6, 8).toString('hex'),
      errno: statusErrno,
    },
    { command: Command.REGION_READ, key: CONFIG_READ, reply: CONFIG_READ + config.toString('hex') },
    { command: Command.REGION_READ, key: '', reply: 'zeros' },
    { command: Command.REGION_WRITE, key: '', reply: 'echo' },
    { command: Command.DEVICE_SET_IRQS, key: '', reply: '' },
    { command: Command.DEVICE_RESET, key: '', reply: '' },
  ]
}

/** SET_IRQS in words: 'msix 0+4 eventfd trigger'. Flags as in linux/vfio.h, VFIO_IRQ_SET_*. */
function irqSet(payload: Buffer): string {
  const [, flags, index, start, count] = [0, 4, 8, 12, 16].map((at) => payload.readUInt32LE(at))
  const kind = ['intx', 'msi', 'msix', 'err', 'req'][index!]
  const data = { 1: 'none', 4: 'eventfd' }[flags! & 7]
  const action = { 16: 'unmask', 32: 'trigger' }[flags! & 0x38]
  return `${kind} ${start}+${count} ${data} ${action}`
}

let servers = 0
async function connect(config = configSpace(), statusErrno = 0) {
  const path = join(folder, `${servers++}.sock`)
  const server = fork(
    fileURLToPath(new URL('scripted.test.process.js', import.meta.url)),
    [path, JSON.stringify(script(config, statusErrno))],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  )
  await once(server, 'message')
  t.teardown(() => void server.kill('SIGKILL'))
  const told: string[] = []
  server.on('message', ({ command, payload }: { command: number; payload: string }) => {
    const bytes = Buffer.from(payload, 'hex')
    if (command === Command.DEVICE_SET_IRQS) told.push(irqSet(bytes))
    else if (command === Command.REGION_WRITE)
      told.push(`write 0x${bytes.readUInt8(0).toString(16)} = 0x${bytes.readUInt16LE(16).toString(16)}`)
    else if (command === Command.DEVICE_RESET) told.push(commandName(command))
  })
  const device = await connectVfioUser(path)
  /** What the server was told since it was last asked: all before a write that says so. */
  const take = async () => {
    device.write(PciRegion.CONFIG, ASKED, 2, 0)
    while (!told.at(-1)?.startsWith(`write 0x${ASKED.toString(16)} `)) await once(server, 'message')
    return told.splice(0).slice(0, -1)
  }
  return { device, take }
}

t.test('what a kernel switches when interrupts are armed, the client does', async (t) => {
  const { device, take } = await connect()
  t.same(
    await take(),
    [
      'req 0+1 eventfd trigger',
      'err 0+1 eventfd trigger',
      'intx 0+0 none trigger', // else libvfio-user of before June 2023 signals ERR for vector 0
      'write 0x4 = 0x402',
    ],
    'connected: INTx is off, memory decode on',
  )
  const fd = new EventFd()
  const armed: [IrqType, number, string[], string[]][] = [
    [
      'msix',
      4,
      ['msix 0+4 eventfd trigger', 'write 0x42 = 0x8003', 'msix 0+4 none unmask'],
      ['msix 0+0 none trigger', 'write 0x42 = 0x3'],
    ],
    [
      'msi',
      3,
      ['msi 0+3 eventfd trigger', 'write 0x62 = 0xa7'], // enabled, of 4 vectors
      ['msi 0+0 none trigger', 'write 0x62 = 0x86'],
    ],
    [
      'intx',
      1,
      ['intx 0+1 eventfd trigger', 'write 0x4 = 0x0'],
      ['intx 0+0 none trigger', 'write 0x4 = 0x400'],
    ],
  ]
  for (const [type, count, arms, disarms] of armed) {
    device.setIrqs(type, new Array(count).fill(fd.fd))
    t.same(await take(), arms, `${type} is armed`)
    device.disableIrqs(type)
    t.same(await take(), disarms, `${type} is disarmed`)
  }
  device.setIrqs('msix', [fd.fd])
  await take()
  await device.reset()
  t.same(
    await take(),
    ['msix 0+0 none trigger', 'write 0x42 = 0x3', 'DEVICE_RESET', 'write 0x4 = 0x402'],
    'a reset leaves all off',
  )
  await device.close()
  fd.close()
})

t.test('vectors without their capability are armed all the same', async (t) => {
  const { device, take } = await connect(Buffer.alloc(256))
  await take()
  const fd = new EventFd()
  device.setIrqs('msix', [fd.fd])
  t.same(await take(), ['msix 0+1 eventfd trigger', 'msix 0+1 none unmask'])
  await device.close()
  fd.close()
})

t.test(
  'a server that tells only of an INTx that rises: after its handler the line is looked at',
  async (t) => {
    for (const asserted of [true, false]) {
      const config = configSpace()
      config.writeUInt16LE(config.readUInt16LE(6) | (asserted ? 1 << 3 : 0), 6)
      const { device, take } = await connect(config)
      t.equal(device.irqs.intx.autoMasked, true, 'as the kernel has it')
      const fd = new EventFd()
      device.setIrqs('intx', [fd.fd])
      t.equal(fd.drain(), 0)
      await take()
      device.unmaskIrq('intx', 0)
      t.equal(fd.drain(), asserted ? 1 : 0, asserted ? 'still up: signalled again' : 'down: not')
      t.same(await take(), [], 'a server without a mask is asked for none')
      device.disableIrqs('intx')
      device.unmaskIrq('intx', 0)
      t.equal(fd.drain(), 0, 'disarmed')
      await device.close()
      fd.close()
    }
  },
)

t.test(
  'a server that tells only of an INTx that rises, and refuses to say whether it is still up',
  async (t) => {
    const { device } = await connect(configSpace(), 5)
    const opened = openDevice(device)
    const irqs = await opened.allocIrqVectors({ types: ['intx'] })
    const lost = once(opened.signal, 'abort')
    t.doesNotThrow(() => irqs.unmask(0), 'after a handler an error would end the process')
    await lost
    t.match(opened.signal.reason, {
      code: 'ERR_ACCEL_NO_DEVICE',
      cause: { code: 'ERR_ACCEL_IO', errno: 'EIO' },
    })
    await opened.release()
    await device.close()
  },
)
