import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import type { IrqType, Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import type { DeviceClient } from '@uaccel/uapi'
import fc from 'fast-check'
import type { Test } from 'tap'
import type { DriverUnderTest } from './driver.js'
import { eduCommonCases } from './edu-common.js'
import { leavesNothing } from './resources.js'
import { withIrqs } from './restrict.js'

/** How the suite reaches an edu device, and how patient it is. */
export interface EduContractOptions<T extends Transport> {
  /** Reaches every register by a call of the transport, also where BARs could be mapped. */
  readonly trapped?: boolean
  /** A number that the device computes for 0.2 to 5 seconds. Default 2^29. */
  readonly slowNumber?: number
  /** Random transfers: QEMU takes 200 ms for each. Default 20. */
  readonly transfers?: number
  /** Kinds of interrupts that the transport hands out. Default INTx and MSI. */
  readonly interrupts?: readonly ('intx' | 'msi')[]
  /** Opens `accel0` of a subsystem, as a client of another process would. Default: in this process. */
  reach?(accel: Accel): Promise<DeviceClient<typeof eduUapi>>
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

type Client = DeviceClient<typeof eduUapi>

/** n! modulo 2^32, with integers that know no limit. */
function factorial(n: number): number {
  let product = 1n
  for (let i = 2n; i <= BigInt(n) && product !== 0n; i++) product = BigInt.asUintN(32, product * i)
  return Number(product)
}

/** edu for the suite of drivers: QEMU's own, or a model. */
export const eduUnderTest: DriverUnderTest<typeof eduUapi> = {
  driver: edu,
  async works(dev, options) {
    const { value } = await dev.call('factorial', { n: 10 }, options)
    if (value !== factorial(10)) throw new Error(`10! is not ${value}`)
  },
  slow: (dev, options) => dev.call('factorial', { n: 2 ** 28 }, options), // a quarter of a second on QEMU
}

/**
 * What every transport to an edu device must do: QEMU's own, or a model. `open` connects to the device anew; the
 * suite closes what it gets.
 */
export function eduContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  options: EduContractOptions<T> = {},
): void {
  const { trapped = false, slowNumber = 2 ** 29, transfers = 20, verify } = options
  const reach = options.reach ?? (async (accel: Accel) => accel.open(eduUapi, 'accel0'))
  const { interrupts = ['intx', 'msi'] } = options

  /** A subsystem with the device in it, for one test. */
  async function bringUp(irqs?: readonly IrqType[]) {
    const accel = new Accel()
    const errors: Error[] = []
    accel.on('error', (error) => errors.push(error))
    accel.register(edu)
    const transport = await open()
    await accel.add(irqs ? withIrqs(transport, irqs) : transport, { trapBars: trapped })
    return { accel, transport, errors, client: () => reach(accel) }
  }

  async function withDevice(
    t: Test,
    work: (device: Awaited<ReturnType<typeof bringUp>>) => Promise<void>,
    irqs?: readonly IrqType[],
  ): Promise<void> {
    const device = await bringUp(irqs)
    try {
      await work(device)
    } finally {
      await device.accel.close()
    }
    t.same(device.errors, [], 'nothing failed behind the calls')
    verify?.(device.transport)
  }

  const echo = async (client: Client, data: Uint8Array) => (await client.call('echo', { data })).data

  t.test('identification', async (t) => {
    await withDevice(t, async ({ client }) => {
      const dev = await client()
      t.match(await dev.call('identify', {}), { major: 1, minor: 0 })
      t.match(await dev.info(), {
        driver: 'edu',
        bus: 'pci',
        vendor: 0x1234,
        device: 0x11e8,
        classCode: 0x00ff00,
      })
      t.match(await dev.version(), { uapi: 'edu', version: eduUapi.version })
    })
  })

  eduCommonCases(t, withDevice)

  t.test('liveness', async (t) => {
    await withDevice(t, async ({ client }) => {
      const dev = await client()
      const word = fc.integer({ min: 0, max: 2 ** 32 - 1 })
      await fc.assert(
        fc.asyncProperty(word, async (value) => {
          const { inverse } = await dev.call('liveness', { value })
          if (inverse !== ~value >>> 0) throw new Error(`inverse of ${value} is not ${inverse}`)
        }),
        { examples: [[0], [1], [0x8000_0000], [0xffff_ffff]] },
      )
    })
  })

  t.test('factorial, one interrupt each', async (t) => {
    await withDevice(t, async ({ client }) => {
      const dev = await client()
      const before = (await dev.call('interrupts', {})).count
      const numbers = [...Array(36).keys(), 100, 4096, 65_537]
      for (const n of numbers) t.same(await dev.call('factorial', { n }), { value: factorial(n) }, `${n}!`)
      t.equal((await dev.call('interrupts', {})).count - before, numbers.length, 'interrupts')
    })
  })

  t.test('concurrent calls of several opens do not race', async (t) => {
    await withDevice(t, async ({ client }) => {
      const opens = [await client(), await client(), await client()]
      const numbers = Array.from({ length: 24 }, (_, i) => (i * 7) % 20)
      const answers = await Promise.all(numbers.map((n, i) => opens[i % 3].call('factorial', { n })))
      t.same(
        answers.map(({ value }) => value),
        numbers.map(factorial),
      )
      const [a, b] = [new Uint8Array(64).fill(1), new Uint8Array(64).fill(2)]
      t.same(
        await Promise.all([echo(opens[0], a), opens[1].call('factorial', { n: 5 }), echo(opens[2], b)]),
        [a, { value: 120 }, b],
      )
    })
  })

  for (const [what, code] of [
    ['aborted', 'ERR_ACCEL_ABORTED'],
    ['timed out', 'ERR_ACCEL_TIMEOUT'],
  ] as const) {
    t.test(`a call that was ${what} midway harms no other`, async (t) => {
      await withDevice(t, async ({ client }) => {
        const [culprit, other] = [await client(), await client()]
        const controller = new AbortController()
        const how = code === 'ERR_ACCEL_ABORTED' ? { signal: controller.signal } : { timeoutMs: 40 }
        const failed = t.rejects(culprit.call('factorial', { n: slowNumber }, how), { code })
        const waiting = other.call('factorial', { n: 10 })
        let waits = true
        const done = waiting.finally(() => {
          waits = false
        })
        await sleep(50)
        controller.abort()
        await failed
        t.ok(waits, 'the next call waits until the hardware is idle')
        await done
        t.same(await waiting, { value: 3628800 })
        t.same(await culprit.call('factorial', { n: 5 }), { value: 120 }, 'the open that caused it goes on')
        const data = Uint8Array.of(1, 2, 3)
        t.same(await echo(culprit, data), data)
      })
    })
  }

  t.test('bad commands are refused, each with its code', async (t) => {
    await withDevice(t, async ({ client }) => {
      const dev = await client()
      const { factorial, echo, dmaRead } = eduUapi.commands
      const good = factorial.in.encode({ n: 5 })
      const refused = (code: string, number: number, bytes: Uint8Array) =>
        t.rejects(dev.dispatch(number, bytes), { code }, `${code} for 0x${number.toString(16)}`)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', 0x3f, good)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', 0xffff, good)
      await refused('ERR_ACCEL_BAD_SIZE', factorial.number, good.subarray(0, 3))
      await refused('ERR_ACCEL_BAD_SIZE', factorial.number, new Uint8Array(1 << 20))
      await refused('ERR_ACCEL_RESERVED', factorial.number, Uint8Array.of(...good, 0, 1))
      const tail = echo.in.encode({ data: Uint8Array.of(1) })
      tail[tail.length - 2] = 1
      await refused('ERR_ACCEL_RESERVED', echo.number, tail)
      const tooLong = echo.in.encode({ data: new Uint8Array(0) })
      tooLong.set([0xff, 0xff, 0xff, 0xff])
      await refused('ERR_ACCEL_OUT_OF_RANGE', echo.number, tooLong)
      const whole = dmaRead.in.encode({ offset: 0, sizeBytes: 0 })
      whole.set([0x00, 0x10], 4)
      await refused('ERR_ACCEL_OUT_OF_RANGE', dmaRead.number, whole)
      await t.rejects(dev.call('dmaRead', { offset: 1, sizeBytes: 4095 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      await t.rejects(dev.call('dmaWrite', { offset: 4095, data: Uint8Array.of(1) }), {
        code: 'ERR_ACCEL_OUT_OF_RANGE',
      })
      await t.rejects(dev.call('factorial', { n: 2 ** 32 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      await t.rejects(dev.call('factorial', { n: '5' as never }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
      const reply = await dev.dispatch(factorial.number, Uint8Array.of(...good, 0, 0))
      t.same(factorial.out.decode(reply.bytes), { value: 120 }, 'unknown fields that are zero are accepted')
    })
  })

  t.test('DMA both ways', async (t) => {
    await withDevice(t, async ({ client }) => {
      const dev = await client()
      const sameBack = async (data: Uint8Array) => {
        if (!Buffer.from(await echo(dev, data)).equals(data))
          throw new Error(`${data.length} bytes came back changed`)
      }
      for (const sizeBytes of [0, 1, 3, 64, 4094, 4095])
        await sameBack(Buffer.alloc(sizeBytes, sizeBytes + 1))
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 4095, size: 'max' }), sameBack),
        { numRuns: transfers },
      )
      t.pass('each echo answered what was sent')

      // One way at a time, to other places than it came from.
      const data = Uint8Array.from({ length: 4095 }, (_, i) => (i * 31) ^ (i >> 8))
      await dev.call('dmaWrite', { offset: 0, data })
      await dev.call('dmaWrite', { offset: 1000, data: Uint8Array.of(1, 2, 3) })
      data.set([1, 2, 3], 1000)
      t.same((await dev.call('dmaRead', { offset: 996, sizeBytes: 12 })).data, data.slice(996, 1008))
      t.ok(Buffer.from((await dev.call('dmaRead', { offset: 0, sizeBytes: 4095 })).data).equals(data))
    })
  })

  for (const type of interrupts) {
    t.test(`interrupts by ${type}`, async (t) => {
      await withDevice(
        t,
        async ({ client }) => {
          const dev = await client()
          for (let n = 1; n <= 12; n++) t.same(await dev.call('factorial', { n }), { value: factorial(n) })
          const data = Uint8Array.of(9, 8, 7)
          t.same(await echo(dev, data), data)
          t.same(await dev.call('interrupts', {}), { type, count: 14 }, 'one for each factorial and transfer')
          await sleep(50)
          t.same(
            await dev.call('interrupts', {}),
            { type, count: 14 },
            'each was acknowledged: the line is quiet',
          )
        },
        [type],
      )
    })
  }

  t.test('remove with a call pending, then add again', async (t) => {
    await withDevice(t, async ({ accel, client }) => {
      const dev = await client()
      const pending = dev.call('factorial', { n: slowNumber })
      const queued = dev.call('factorial', { n: 3 })
      const outcomes = Promise.allSettled([pending, queued])
      await sleep(20)
      await accel.remove('accel0')
      for (const outcome of await outcomes) {
        t.match(outcome, { status: 'rejected', reason: { code: 'ERR_ACCEL_NO_DEVICE' } })
      }
      t.equal((await dev.lost).code, 'ERR_ACCEL_NO_DEVICE')
      await t.rejects(dev.call('identify', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
      await accel.add(await open(), { trapBars: trapped })
      const data = Uint8Array.of(4, 5, 6)
      t.same(await (await client()).call('factorial', { n: 6 }), { value: 720 })
      t.same(await echo(await client(), data), data)
    })
  })

  t.test('nothing is left of a device that was removed', async (t) => {
    await leavesNothing(t, async () => {
      const { accel, client } = await bringUp()
      const dev = await client()
      await dev.call('factorial', { n: 12 })
      await echo(dev, new Uint8Array(100))
      await accel.close()
    })
  })
}
