import type { Transport } from '@uaccel/core'
import type { eduUapi } from '@uaccel/driver-edu/uapi'
import type { DeviceClient } from '@uaccel/uapi'
import type { Test } from 'tap'

/** What the suite of edu needs of the subsystem that the device is in. */
interface EduDevice {
  readonly transport: Transport
  client(): Promise<DeviceClient<typeof eduUapi>>
}

/** The commands that every device answers, as edu does: they go through their binary form. */
export function eduCommonCases(
  t: Test,
  withDevice: (t: Test, work: (device: EduDevice) => Promise<void>) => Promise<void>,
): void {
  const show = async (client: DeviceClient<typeof eduUapi>, path: string) =>
    (await client.common('attrShow', { path })).value

  t.test('what it tells of itself', (t) =>
    withDevice(t, async ({ client }) => {
      const [dev, other] = [await client(), await client()]
      t.match(await dev.query('identity'), {
        known: { pci: true },
        vendor: 0x1234,
        device: 0x11e8,
        revision: 0x10,
        driver: 'edu',
        name: 'QEMU edu',
      })
      t.match(await dev.query('status'), { state: 'operational', opens: 2 })
      t.match((await dev.query('memoryRegions'))?.entries, [
        { name: 'bar0', kind: 'bar', sizeBytes: 1024n * 1024n },
        { name: 'buffer', kind: 'device', sizeBytes: 4096n },
      ])
      for (const kind of ['clocks', 'power', 'sensors', 'timeSync'] as const)
        t.equal(await dev.query(kind), undefined, `it has no ${kind}`)
      for (let n = 0; n < 5; n++) await dev.call('factorial', { n })
      t.match(await dev.query('counters'), { submissions: 5n, completions: 5n, failures: 0n })
      const usage = (await other.query('usage'))!.entries
      t.match(
        usage.map(({ self }) => self),
        [false, true],
      )
      t.match(usage[0]!.text, /^drm-engine-command:\t[1-9][0-9]* ns$/m)
      t.match(usage[1]!.text, /^drm-engine-command:\t0 ns$/m)
    }),
  )

  t.test('its attributes', (t) =>
    withDevice(t, async ({ client }) => {
      const dev = await client()
      t.equal(await show(dev, 'version'), '1.0')
      t.equal(await show(dev, 'computing'), '0')
      t.equal(await show(dev, 'identity/vendor'), '0x1234')
      t.ok(['intx', 'msi', 'msix'].includes(await show(dev, 'irqs/type')))
      const fired = Number(await show(dev, 'irqs/0/fired'))
      for (let n = 0; n < 5; n++) await dev.call('factorial', { n })
      t.equal(Number(await show(dev, 'irqs/0/fired')) - fired, 5, 'an interrupt each')
      t.ok(Number(await show(dev, 'dma/mappedBytes')) >= 4096)
      t.equal(await show(dev, 'dma/mappings'), '1')

      await dev.common('attrStore', { path: 'liveness', value: '0x12345678' })
      const { value, revision } = await dev.common('attrShow', { path: 'liveness' })
      t.equal(Number(value), ~0x12345678 >>> 0)
      const watching = dev.common('attrWatch', { path: 'liveness', after: revision })
      await dev.call('liveness', { value: 1 })
      t.match(await watching, { value: `${0xffff_fffe}` })
      for (const bad of ['-1', '0x100000000'])
        await t.rejects(dev.common('attrStore', { path: 'liveness', value: bad }), {
          code: 'ERR_ACCEL_OUT_OF_RANGE',
        })
    }),
  )

  t.test('events over a reset', (t) =>
    withDevice(t, async ({ client, transport }) => {
      const [dev, other] = [await client(), await client()]
      const reset = () => dev.common('reset', { kind: 'function', reason: 'a test wants it' })
      if (!transport.resets.includes('function')) {
        await t.rejects(reset(), { code: 'ERR_ACCEL_UNSUPPORTED' })
        return
      }
      const waiting = other.common('events', { after: 0n, options: {} })
      await reset()
      t.match((await waiting).events, [{ sequence: 1n, kind: 'reset', reason: /a test wants it/ }])
      t.match(await other.query('resets'), { total: 1, entries: [{ kind: 'function', error: 0 }] })
      t.match(await other.query('status'), { state: 'operational' })
      t.same(await other.call('factorial', { n: 5 }), { value: 120 })
      const last = other.common('events', { after: 1n, options: {} }, { timeoutMs: 20 })
      await t.rejects(last, { code: 'ERR_ACCEL_TIMEOUT' })
    }),
  )
}
