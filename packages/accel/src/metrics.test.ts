import { readdirSync, readFileSync } from 'node:fs'
import { cmd, uapi } from '@uaccel/uapi'
import t from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, accelDriver } from './index.js'
import { METRICS_CONTENT_TYPE, metrics } from './metrics.js'

const plain = uapi({ name: 'plain', version: 1, commands: { nop: cmd(0x40) } })

/** Samples of Prometheus' text format 0.0.4, by name and labels. */
function samples(text: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const parts = /^([a-z_]+(?:\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*\})?) (\S+)$/.exec(line)
    if (!parts) throw new Error(`not a sample: ${line}`)
    found.set(parts[1]!, Number(parts[2]))
  }
  return found
}

t.test('all nodes, each value where it belongs, and what fails left out', async (t) => {
  await using accel = new Accel({ limits: { attributeMs: 50 } })
  let busyNs = 2.5e9
  accel.register(
    accelDriver({
      name: 'plain',
      uapi: plain,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({
        commands: { nop: () => undefined },
        telemetry: {
          name: 'a "quoted" name',
          engines: () => [{ name: 'mac', instances: 4, busyNs }],
          sensors: () => [
            { name: 'die', kind: 'temperature', unit: 'C', exponent: -3, value: 42_500 },
            { name: 'inlet', kind: 'temperature', unit: 'C', value: -3 },
          ],
          power: () => ({ drawnMicrowatts: 1_500_000, energyMicrojoules: 2_000_000n }),
          clocks: () => {
            throw new Error('a bug')
          },
        },
        attributes: {
          'queue/depth': { show: () => 12, type: 'integer', unit: 'jobs' },
          'queue/name': { show: () => 'text is no metric' },
          'queue/secret': { show: () => 1, type: 'integer', scope: 'debug' },
          'queue/broken': { show: () => 'x', type: 'integer' },
          'queue/hung': { show: () => new Promise<never>(() => {}), type: 'integer' },
        },
      }),
    }),
  )
  t.equal(await metrics(accel), '\n', 'no node, no sample')
  const node = await accel.add(new FakeTransport())
  await accel.add(new FakeTransport())
  await using client = accel.open(plain, 'accel0')
  await client.call('nop', {})
  await node.reset()
  const found = samples(await metrics(accel))
  const value = (name: string, labels = '') => found.get(`uaccel_${name}{node="accel0"${labels}}`)
  t.equal(value('up'), 1)
  t.equal(found.get('uaccel_up{node="accel1"}'), 1)
  t.equal(value('device_state', ',state="operational"'), 1)
  t.equal(value('submissions_total'), 1)
  t.equal(value('completions_total'), 1)
  t.equal(found.get('uaccel_completions_total{node="accel1"}'), 0)
  t.equal(value('resets_total'), 1)
  t.equal(value('engine_busy_seconds_total', ',engine="mac"'), 2.5)
  t.equal(value('engine_instances', ',engine="mac"'), 4)
  t.equal(value('sensor', ',sensor="die",kind="temperature",unit="C"'), 42.5)
  t.equal(value('sensor', ',sensor="inlet",kind="temperature",unit="C"'), -3)
  t.equal(value('power_watts'), 1.5)
  t.equal(value('energy_joules_total'), 2)
  t.equal(value('memory_bytes', ',region="bar0",kind="bar"'), 4096)
  t.equal(value('attribute', ',attribute="queue/depth",unit="jobs"'), 12)
  const names = [...found.keys()]
  t.same(
    names.filter((name) => /secret|broken|hung|queue\/name|clock/.test(name)),
    [],
  )
  t.ok(
    names.some(
      (name) => name.startsWith('uaccel_device_info') && name.includes('name="a \\"quoted\\" name"'),
    ),
  )
  busyNs = 3e9
  t.equal(
    samples(await metrics(accel)).get('uaccel_engine_busy_seconds_total{node="accel0",engine="mac"}'),
    3,
    'a counter is what its source says, not a sum over collections',
  )
  t.equal(node.opens.size, 1, 'its own opens are closed')
  t.match(METRICS_CONTENT_TYPE, /^text\/plain; version=0\.0\.4/)
})

t.test('who does not ask for metrics loads nothing for them', async (t) => {
  const folder = new URL('.', import.meta.url)
  const modules = readdirSync(folder).filter((name) => name.endsWith('.js') && !name.includes('.test.'))
  const importing = (module: string) =>
    modules.filter((name) => readFileSync(new URL(name, folder), 'utf8').includes(`from '${module}'`))
  t.same(importing('prom-client'), ['metrics.js'])
  t.same(importing('./metrics.js'), [])
})
