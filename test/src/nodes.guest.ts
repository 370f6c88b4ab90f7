import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAccel } from '@uaccel/client'
import { parseBdf, readPciDevice } from '@uaccel/core'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { clientInGuest, NOBODY, nextWord, nodePath, serveInGuest, stopServer } from './guest-nodes.js'
import { lanes } from './iommufd-lane.js'
import { eventually, held, settled } from './nodes.js'

/**
 * Runs in the lab: QEMU's edu under kernel VFIO is served by a process of root, and processes of a user without rights use it by
 * its node. `unplug` on standard error has the host take the device away.
 */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const bdf = parseBdf(found.bdf)
/** Clients that are killed, each at another moment of its transfers, of 200 ms each. */
const KILLS = 2
const best = lanes().findLast(({ skip }) => !skip)!.iommu

t.setTimeout(400_000)
// Nodes are looked for where root makes them.
delete process.env.XDG_RUNTIME_DIR

for (const { iommu, skip } of lanes()) {
  t.test(`edu under kernel VFIO by ${iommu}, used by a client without rights`, { skip }, async (t) => {
    const server = await serveInGuest(t, bdf, iommu)
    const group = `/dev/vfio/${readPciDevice(bdf).iommuGroup!.id}`
    const { process: child, said } = await clientInGuest(t, 'session', group)
    t.match(said, {
      uid: NOBODY,
      vfio: false,
      factorials: [120, 3_628_800, 479_001_600],
      echoed: true,
      part: [1, 2, 3],
      info: { node: 'accel0', driver: 'edu', transport: 'vfio', address: bdf, tainted: '', iommu },
      identity: { vendor: 0x1234, device: 0x11e8, name: 'QEMU edu', address: bdf, iommu },
      status: { state: 'operational', opens: 1 },
      contexts: [{ pid: child.pid!, uid: NOBODY, gid: NOBODY }],
      version: '1.0',
      vendor: '0x1234',
      refused: ['ERR_ACCEL_PERMISSION', 'ERR_ACCEL_PERMISSION', 'ERR_ACCEL_OUT_OF_RANGE'],
    })
    const root = await openAccel(eduUapi, 'accel0')
    await root.common('attrStore', { path: 'liveness', value: '0x12345678' })
    t.equal(Number((await root.common('attrShow', { path: 'liveness' })).value), ~0x12345678 >>> 0)
    const told = nextWord(child)
    await root.common('reset', { kind: 'default', reason: 'the administrator wants it' })
    t.match(await told, { event: 'reset', reason: /the administrator wants it/, works: 'none' })
    t.match(await root.query('resets'), { total: 1, entries: [{ error: 0 }] })
    await root.close()
    await stopServer(server)
    t.notOk(existsSync(nodePath))
  })
}

t.test('clients that are killed during a transfer leave nothing', async (t) => {
  const server = await serveInGuest(t, bdf, best)
  const witness = await openAccel(eduUapi, 'accel0')
  const attribute = async (path: string) => (await witness.common('attrShow', { path })).value
  await witness.call('echo', { data: Uint8Array.of(1) })
  const before = await settled(server.pid!)
  const mapped = await attribute('dma/mappings')
  for (let killed = 0; killed < KILLS; killed++) {
    const { process: child, said } = await clientInGuest(t, 'busy')
    t.same(said, { busy: true })
    await sleep(((killed * 0.618) % 1) * 200)
    child.kill('SIGKILL')
    await once(child, 'exit')
    const alone = async () => (await witness.query('status'))!.opens === 1
    t.ok(await eventually(alone), 'its open is gone')
  }
  t.ok(await eventually(() => held(server.pid!).fds === before.fds))
  t.same(held(server.pid!), before)
  t.equal(await attribute('dma/mappings'), mapped)
  const data = Uint8Array.from({ length: 100 }, (_, i) => i)
  t.same(await witness.call('echo', { data }), { data }, 'the device works on')
  await witness.close()
  await stopServer(server)
})

t.test('a server that is killed, an exclusive one on the same node, and a device that goes', async (t) => {
  const killed = await serveInGuest(t, bdf, best)
  const first = await clientInGuest(t, 'waiting')
  const start = performance.now()
  const ends = nextWord(first.process)
  killed.kill('SIGKILL')
  const gone = 'ERR_ACCEL_NO_DEVICE'
  t.same(await ends, { codes: [gone, gone], lost: gone, later: gone, events: [], told: gone })
  t.comment(`the client knew ${Math.round(performance.now() - start)} ms later`)
  t.ok(existsSync(nodePath), 'its socket is still there')
  await t.rejects(openAccel(eduUapi, 'accel0'), { code: 'ERR_ACCEL_NOT_FOUND' })

  const server = await serveInGuest(t, bdf, best, 'exclusive')
  const one = await openAccel(eduUapi, 'accel0')
  t.same(await one.call('factorial', { n: 10 }), { value: 3_628_800 }, 'bound again')
  await one.close()
  const holder = await clientInGuest(t, 'waiting')
  await t.rejects(openAccel(eduUapi, 'accel0'), {
    code: 'ERR_ACCEL_BUSY',
    message: /exclusive, and process \d+ of nobody has it/,
    details: { pid: holder.process.pid!, uid: NOBODY },
  })
  const lost = nextWord(holder.process)
  const closed = nextWord(server)
  console.error('unplug')
  const [end, why] = await Promise.all([lost, closed])
  t.match(end, { codes: [gone, gone], later: gone, events: ['request', 'removal'], told: 'none' })
  t.same(why, { closed: gone })
  t.notOk(existsSync(nodePath), 'a node of no device is taken away')
})
