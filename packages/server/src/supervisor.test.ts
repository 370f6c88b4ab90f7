import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeviceIdentity, DeviceSource, Overrun, Uevent } from '@uaccel/core'
import t, { type Test } from 'tap'
import { mergeMetrics } from './metrics-server.js'
import { type SuperviseOptions, supervise } from './supervisor.js'

t.setTimeout(120_000)

const edu = (address: string): DeviceIdentity => ({
  bus: 'pci',
  vendor: 0x1234,
  device: 0x11e8,
  subsystemVendor: 0,
  subsystem: 0,
  revision: 0,
  classCode: 0,
  transport: { kind: 'vfio', address },
})

/** Addresses that no machine has: a process is started for each, and fails to open it. */
const first = 'fffe:00:01.0'
const second = 'fffe:00:02.0'

/** A machine whose devices come and go. */
class Machine {
  readonly present = new Set<string>()
  listening = 0
  #tell: (event: Uevent | Overrun) => void = () => {}

  readonly source: DeviceSource = {
    name: 'fake',
    subsystems: ['pci'],
    scan: () => [...this.present].map(edu),
    addressOf: ({ name }) => name,
    open: () => Promise.reject(new Error('it is for the processes of devices')),
  }

  readonly uevents: NonNullable<SuperviseOptions['uevents']> = (handler) => {
    this.#tell = handler
    this.listening++
    const close = () => {
      this.listening--
    }
    return { close, [Symbol.dispose]: close }
  }

  plug(address: string): void {
    this.present.add(address)
    this.#say('bind', address)
  }

  unplug(address: string): void {
    this.present.delete(address)
    this.#say('unbind', address)
  }

  #say(action: 'bind' | 'unbind', name: string): void {
    const event = { action, name, subsystem: 'pci', seqnum: 1, synthetic: false }
    this.#tell(event as unknown as Uevent)
  }
}

async function eventually(check: () => boolean): Promise<boolean> {
  for (const start = performance.now(); performance.now() - start < 20_000; await sleep(5))
    if (check()) return true
  return false
}

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-supervisor-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

t.test('devices that come and go are followed', async (t) => {
  const machine = new Machine()
  machine.present.add(first)
  const folder = folderOf(t)
  const notes: string[] = []
  const supervisor = await supervise({
    source: {
      value: { folder, defaults: { backOff: { baseMs: 30_000 } } },
      drivers: ['@uaccel/driver-edu'],
      resolveFrom: [],
    },
    note: (text) => notes.push(text),
    devices: machine.source,
    uevents: machine.uevents,
  })
  t.teardown(() => supervisor.stop(0))
  const nodes = () => supervisor.nodes.map(({ name, address, state }) => [name, address, state])
  await supervisor.settled
  t.same(nodes(), [['accel0', first, 'backOff']])
  t.match(supervisor.nodes[0]?.reason, /fffe:00:01\.0/)
  t.match(notes, [`nodes: ${folder}`, /^accel0: .*ERR_ACCEL_NOT_FOUND.*Next attempt in 30000 ms$/])
  machine.plug(second)
  t.ok(await eventually(() => nodes().length === 2))
  t.match(nodes(), [
    ['accel0', first],
    ['accel1', second],
  ])
  machine.unplug(first)
  t.ok(await eventually(() => nodes().length === 1))
  t.match(nodes(), [['accel1', second]])
  t.equal(supervisor.status, `0 of 1 nodes run in ${folder}`)
  machine.plug(first)
  t.ok(await eventually(() => nodes().length === 2))
  t.match(nodes(), [
    ['accel0', first],
    ['accel1', second],
  ])
  t.ok(await eventually(() => supervisor.nodes.every(({ state }) => state === 'backOff')))
  const attempts = notes.length
  machine.plug(first)
  t.ok(await eventually(() => notes.length > attempts), 'one that was bound anew is not waited for')
  t.same(JSON.parse(readFileSync(join(folder, '.numbers.json'), 'utf8')), {
    [`vfio ${first}`]: 0,
    [`vfio ${second}`]: 1,
  })
  await supervisor.stop()
  t.equal(machine.listening, 0)
  t.same(readdirSync(folder), ['.numbers.json'])
  await t.rejects(supervisor.reload(), { code: 'ERR_ACCEL_CLOSED' })
})

t.test('what cannot be begun leaves nothing', async (t) => {
  const folder = folderOf(t)
  const source = { value: { folder, devices: [] }, drivers: [], resolveFrom: [] }
  const one = await supervise({ source })
  await t.rejects(supervise({ source }), { code: 'ERR_ACCEL_BUSY', message: /control is served by process/ })
  t.ok(existsSync(join(folder, 'control')), 'and takes nothing from the one that is there')
  await one.stop()
  await t.rejects(supervise({ source, metrics: '127.0.0.1:99999' }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await t.rejects(supervise({ source, metrics: '/nowhere/metrics' }), { code: 'ERR_ACCEL_PERMISSION' })
  t.same(readdirSync(folder), [])
})

t.test('metrics of several nodes are one text', async (t) => {
  const of = (node: string, more = '') =>
    `# HELP uaccel_up Whether it answers.\n# TYPE uaccel_up gauge\nuaccel_up{node="${node}"} 1\n${more}`
  const opens = '\n# HELP uaccel_opens Opens.\n# TYPE uaccel_opens gauge\nuaccel_opens{node="b"} 2\n'
  t.equal(
    mergeMetrics([of('a'), of('b', opens), of('c')]),
    '# HELP uaccel_up Whether it answers.\n# TYPE uaccel_up gauge\nuaccel_up{node="a"} 1\nuaccel_up{node="b"} 1\nuaccel_up{node="c"} 1\n' +
      '# HELP uaccel_opens Opens.\n# TYPE uaccel_opens gauge\nuaccel_opens{node="b"} 2\n',
  )
  t.equal(mergeMetrics([]), '')
})
