import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { abi, sys } from '@uaccel/sys'
import fc from 'fast-check'
import t from 'tap'
import { type Overrun, parseUevent, type Uevent, ueventActions, watchUevents } from './uevents.js'

/** A device that nobody minds. */
const ANNOUNCE = '/sys/class/mem/null/uevent'
const skip = process.getuid!() === 0 ? false : 'only root may have the kernel announce a device'

const message = (...lines: string[]) => Buffer.from(lines.map((line) => `${line}\0`).join(''))

const bound = [
  'bind@/devices/pci0000:00/0000:00:05.0',
  'ACTION=bind',
  'DEVPATH=/devices/pci0000:00/0000:00:05.0',
  'SUBSYSTEM=pci',
  'DRIVER=vfio-pci',
  'PCI_ID=1234:11E8',
  'SEQNUM=1042',
] as const

async function until(condition: () => boolean): Promise<void> {
  const start = performance.now()
  while (!condition() && performance.now() - start < 5000) await sleep(5)
}

t.test('a message as the kernel sends it', async (t) => {
  const event = parseUevent(message(...bound))!
  t.match(event, {
    action: 'bind',
    subsystem: 'pci',
    devpath: '/devices/pci0000:00/0000:00:05.0',
    name: '0000:00:05.0',
    seqnum: 1042,
    synthetic: false,
  })
  t.equal(event.properties.get('DRIVER'), 'vfio-pci')
  t.equal(event.properties.get('PCI_ID'), '1234:11E8')
  t.equal(parseUevent(message(...bound, 'SYNTH_UUID=0'))!.synthetic, true)
  t.equal(parseUevent(message(...bound, 'EMPTY=', 'TWO=a=b'))!.properties.get('TWO'), 'a=b')
})

t.test('what is none', async (t) => {
  const none = (what: string, bytes: Uint8Array) => t.equal(parseUevent(bytes), undefined, what)
  const without = (key: string) => message(...bound.filter((line) => !line.startsWith(`${key}=`)))
  none('nothing', Buffer.alloc(0))
  none('a NUL', Buffer.alloc(1))
  none('of udev', Buffer.concat([Buffer.from('libudev\0'), Buffer.alloc(32)]))
  for (const key of ['ACTION', 'DEVPATH', 'SUBSYSTEM', 'SEQNUM']) none(`no ${key}`, without(key))
  none('cut off', message(...bound).subarray(0, -1))
  none('header of another device', message('bind@/devices/other', ...bound.slice(1)))
  none('header of another action', message(bound[0].replace('bind', 'add'), ...bound.slice(1)))
  none('an action that is none', message('burn@/x', 'ACTION=burn', 'DEVPATH=/x', 'SUBSYSTEM=pci', 'SEQNUM=1'))
  none('no path', message('add@x', 'ACTION=add', 'DEVPATH=x', 'SUBSYSTEM=pci', 'SEQNUM=1'))
  none('a line that is none', message(...bound, 'nothing'))
  none('a line without a key', message(...bound, '=value'))
  none('no number', message(...bound.slice(0, -1), 'SEQNUM=1e3'))
})

t.test('any bytes are refused or understood, and what is written is read back', async (t) => {
  const line = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'))
  const part = line.filter((text) => text !== '' && !text.includes('/'))
  fc.assert(
    fc.property(
      fc.constantFrom(...ueventActions),
      part,
      part,
      fc.nat(),
      fc.array(line),
      (action, subsystem, name, seqnum, rest) => {
        const devpath = `/devices/${name}`
        const extra = rest.map((text, i) => `X${i}=${text}`)
        const event = parseUevent(
          message(
            `${action}@${devpath}`,
            ...[`ACTION=${action}`, `DEVPATH=${devpath}`, `SUBSYSTEM=${subsystem}`, `SEQNUM=${seqnum}`],
            ...extra,
          ),
        )!
        t.match([event.action, event.subsystem, event.name, event.seqnum], [action, subsystem, name, seqnum])
        rest.forEach((text, i) => {
          t.equal(event.properties.get(`X${i}`), text)
        })
      },
    ),
    { numRuns: 200 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096 }), (bytes) => void parseUevent(bytes)),
    { numRuns: 1000 },
  )
  // One byte of a good message is another: it still says the same of itself everywhere, or is refused.
  const good = message(...bound)
  fc.assert(
    fc.property(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const bytes = Uint8Array.from(good)
      bytes[at] = byte
      const event = parseUevent(bytes)
      if (event) t.equal(`${event.action}@${event.devpath}`, Buffer.from(bytes).toString().split('\0')[0])
    }),
    { numRuns: 1000 },
  )
})

t.test('messages of the kernel arrive, and nobody else’s', { skip }, async (t) => {
  const events: (Uevent | Overrun)[] = []
  using watching = watchUevents((event) => events.push(event), { subsystems: ['mem'] })
  const before = Number(readFileSync('/sys/kernel/uevent_seqnum', 'latin1'))
  const forger = sys.netlink(abi.NETLINK_KOBJECT_UEVENT, 0, 4096)
  const everybody = Buffer.alloc(12)
  everybody.writeUInt16LE(abi.AF_NETLINK, 0)
  everybody.writeUInt32LE(abi.UEVENT_GROUP_KERNEL, 8)
  sys.provider.raw.connect(forger, everybody, everybody.length)
  const forged = ['remove@/devices/virtual/mem/null', 'ACTION=remove', 'DEVPATH=/devices/virtual/mem/null']
  sys.send(forger, message(...forged, 'SUBSYSTEM=mem', 'SEQNUM=1'))
  sys.close(forger)
  writeFileSync(ANNOUNCE, 'change')
  writeFileSync(ANNOUNCE, 'add')
  await until(() => events.length === 2)
  t.match(events, [
    { action: 'change', subsystem: 'mem', name: 'null', synthetic: true },
    { action: 'add', subsystem: 'mem', name: 'null', synthetic: true },
  ])
  t.ok((events[0] as Uevent).seqnum > before)
  watching.close()
  writeFileSync(ANNOUNCE, 'change')
  await sleep(20)
  t.equal(events.length, 2, 'nothing after close')
})

t.test('messages that were dropped are told, and later ones arrive', { skip }, async (t) => {
  const events: string[] = []
  using _watching = watchUevents(({ action }) => events.push(action), {
    subsystems: ['mem'],
    receiveBytes: 4096,
  })
  for (let i = 0; i < 200; i++) writeFileSync(ANNOUNCE, 'change')
  await until(() => events.includes('overrun'))
  t.ok(events.includes('overrun'))
  const count = events.length
  writeFileSync(ANNOUNCE, 'change')
  await until(() => events.length > count)
  t.equal(events.at(-1), 'change')
})

t.test('a handler that throws does not keep the rest', { skip }, async (t) => {
  const bug = new Error('handler')
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
  let count = 0
  using _watching = watchUevents(
    () => {
      if (++count === 1) throw bug
    },
    { subsystems: ['mem'] },
  )
  writeFileSync(ANNOUNCE, 'change')
  writeFileSync(ANNOUNCE, 'change')
  t.equal(await caught, bug)
  await until(() => count === 2)
  t.equal(count, 2)
})

t.test('in a worker thread', { skip }, async (t) => {
  const module = JSON.stringify(new URL('./uevents.js', import.meta.url).href)
  const program = `import { parentPort } from 'node:worker_threads'
    import { watchUevents } from ${module}
    const watching = watchUevents((event) => {
      parentPort.postMessage(event.action)
      watching.close()
    }, { subsystems: ['mem'], ref: true })
    parentPort.postMessage('ready')
    const idle = watchUevents(() => {})
    setTimeout(() => idle.close(), 100)`
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`))
  const heard: string[] = []
  worker.on('message', (text: string) => {
    heard.push(text)
    if (text === 'ready') writeFileSync(ANNOUNCE, 'change')
  })
  t.equal(await new Promise((resolve) => worker.once('exit', resolve)), 0)
  t.same(heard, ['ready', 'change'])
})
