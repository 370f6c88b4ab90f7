import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import { sys } from '@uaccel/sys'
import { type AccelError, commonUapi, type DeviceClient, FIRST_DRIVER_COMMAND } from '@uaccel/uapi'
import type { Test } from 'tap'
import { contractDriver, contractFailures, contractUapi, FILL_BYTES } from './client-driver.js'
import { leavesNothing } from './resources.js'

type Client = DeviceClient<typeof contractUapi>

/** Calls that are made at once: more than a server takes from one connection. */
const PIPELINED = 500
/** How long an event may take to get from one side to the other. */
const PATIENCE_MS = 5000

async function eventually(t: Test, what: string, check: () => Promise<boolean>): Promise<void> {
  for (const start = performance.now(); performance.now() - start < PATIENCE_MS; await sleep(2)) {
    if (!(await check())) continue
    t.pass(what)
    return
  }
  t.fail(what)
}

/**
 * What every client of a device must do, wherever its driver runs. `reach` opens `accel0` of a subsystem that lives until the
 * test's end.
 */
export function clientContract(t: Test, reach: (accel: Accel) => Promise<Client>): void {
  async function withDevice(
    work: (open: () => Promise<Client>, accel: Accel) => Promise<void>,
  ): Promise<void> {
    const accel = new Accel()
    accel.register(contractDriver)
    await accel.add(loopback(eduModel))
    const clients: Client[] = []
    try {
      await work(async () => {
        const client = await reach(accel)
        clients.push(client)
        return client
      }, accel)
    } finally {
      await Promise.all(clients.map((client) => client.close()))
      await accel.close()
    }
  }

  t.test('a call, and who is asked', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      t.equal(dev.name, 'accel0')
      t.equal(dev.uapi, contractUapi)
      t.same(await dev.call('add', { a: 1, b: 2 }), { sum: 3 })
      const version = await dev.version()
      t.match(version, { uapi: 'contract', version: 1, commonVersion: commonUapi.version })
      t.equal(Buffer.from(version.digest).toString('hex'), contractUapi.digest)
      t.same(await dev.common('info', {}), await dev.info())
      t.match(await dev.info(), { node: 'accel0', driver: 'contract', vendor: 0x1234, device: 0x11e8 })
    })
  })

  t.test('calls that are made at once are answered each with its own answer', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const sums = await Promise.all(
        Array.from({ length: PIPELINED }, (_, i) => dev.call('add', { a: i, b: 1 })),
      )
      t.same(
        sums.map(({ sum }) => sum),
        sums.map((_, i) => i + 1),
      )
      const sizes = Array.from({ length: 40 }, (_, i) => (i * 7919) % (FILL_BYTES + 1))
      const filled = await Promise.all(sizes.map((sizeBytes) => dev.call('fill', { sizeBytes })))
      t.same(
        filled.map(({ data }) => data.length),
        sizes,
        'long answers, too',
      )
      t.ok(filled.every(({ data }) => data.every((byte) => byte === 0xa5)))
    })
  })

  t.test('what is withdrawn ends at once, and the driver hears of it', async (t) => {
    await withDevice(async (open) => {
      const [dev, other] = [await open(), await open()]
      const controller = new AbortController()
      const reason = new Error('enough')
      const hanging = t.rejects(dev.call('hang', {}, { signal: controller.signal }), {
        code: 'ERR_ACCEL_ABORTED',
        cause: reason,
      })
      await eventually(t, 'it runs', async () => (await other.call('state', {})).hanging === 1)
      controller.abort(reason)
      await hanging
      await eventually(t, 'the driver was told', async () => (await other.call('state', {})).aborted === 1)
      await t.rejects(dev.call('hang', {}, { timeoutMs: 20 }), { code: 'ERR_ACCEL_TIMEOUT' })
      await eventually(t, 'of the limit, too', async () => (await other.call('state', {})).timedOut === 1)
      await t.rejects(dev.call('add', { a: 1, b: 2 }, { signal: AbortSignal.abort(reason) }), {
        code: 'ERR_ACCEL_ABORTED',
        cause: reason,
      })
      for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31, '5' as never]) {
        await t.rejects(dev.call('add', { a: 1, b: 2 }, { timeoutMs }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      }
      t.same(await dev.call('add', { a: 1, b: 2 }, { timeoutMs: 2 ** 31 - 1 }), { sum: 3 }, 'it goes on')
    })
  })

  t.test('many calls, some of them withdrawn: the others are answered', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const controllers = Array.from({ length: PIPELINED }, () => new AbortController())
      const hanging = Promise.allSettled(controllers.map(({ signal }) => dev.call('hang', {}, { signal })))
      const sums = Promise.all(Array.from({ length: 50 }, (_, i) => dev.call('add', { a: i, b: i })))
      await sleep(10)
      for (const controller of controllers) controller.abort()
      const codes = new Set((await hanging).map((each) => (each as { reason: AccelError }).reason.code))
      t.same([...codes], ['ERR_ACCEL_ABORTED'])
      t.same(
        (await sums).map(({ sum }) => sum),
        Array.from({ length: 50 }, (_, i) => 2 * i),
      )
    })
  })

  t.test('errors of the driver arrive as they were thrown', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const error = await dev.call('fail', { how: 'detailed', size: 7 }).catch((caught) => caught)
      t.match(error, {
        name: 'AccelError',
        code: 'ERR_ACCEL_MAPPING_LIMIT',
        errno: 'ENOSPC',
        syscall: 'ioctl',
        message: 'what the driver says',
        details: { limit: 7 },
      })
      await t.rejects(dev.call('fail', { how: 'bug', size: 0 }), { code: 'ERR_ACCEL_IO', message: /a bug/ })
      const long = await dev.call('fail', { how: 'long', size: 100_000 }).catch((caught) => caught)
      t.equal(long.code, 'ERR_ACCEL_MAPPING_LIMIT', 'one that is too long to travel is cut')
      t.match(long.message, /^ä+$/)
    })
  })

  t.test('bad commands are refused, each with its code', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const { add, fail } = contractUapi.commands
      const good = add.in.encode({ a: 1, b: 2 })
      const refused = (code: string, number: number, bytes: Uint8Array) =>
        t.rejects(dev.dispatch(number, bytes), { code }, `${code} for 0x${number.toString(16)}`)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', FIRST_DRIVER_COMMAND - 1, good)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', 0xffff, good)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', 0x1_0000, good)
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', -1, good)
      await refused('ERR_ACCEL_BAD_SIZE', add.number, good.subarray(1))
      await refused('ERR_ACCEL_BAD_SIZE', add.number, new Uint8Array(good.length + 5000))
      await refused('ERR_ACCEL_BAD_SIZE', add.number, new Uint8Array(1 << 24))
      await refused('ERR_ACCEL_RESERVED', add.number, Uint8Array.of(...good, 1))
      await refused('ERR_ACCEL_OUT_OF_RANGE', fail.number, Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0))
      t.same(add.out.decode((await dev.dispatch(add.number, Uint8Array.of(...good, 0))).bytes), { sum: 3 })
    })
  })

  t.test('descriptors go with a command both ways', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const file = sys.memfdCreate('uaccel-given')
      sys.pwrite(file, Buffer.from('stressed'), 0)
      const swapping = dev.call('swap', { file })
      sys.close(file) // it is the caller's, who may close it as soon as the call was made
      const { file: answer, sizeBytes } = await swapping
      const text = Buffer.alloc(sizeBytes)
      t.equal(sys.pread(answer!, text, 0), 8)
      t.equal(text.toString(), 'desserts')
      sys.close(answer!)
      t.same(await dev.call('swap', { file: null }), { file: null, sizeBytes: 0 })
      t.equal(contractFailures.length, 0)
    })
  })

  t.test('descriptors that are refused, dropped or late are closed', async (t) => {
    await withDevice(async (open) => {
      const dev = await open()
      const { swap, files, late } = contractUapi.commands
      const work = async () => {
        const file = sys.memfdCreate('uaccel-given')
        const refused = (code: string, number: number, bytes: Uint8Array, fds: number[]) =>
          t.rejects(dev.dispatch(number, bytes, { fds }), { code })
        const none = new Uint8Array(swap.in.layout.sizeBytes)
        await refused('ERR_ACCEL_OUT_OF_RANGE', swap.number, none, [file])
        await refused('ERR_ACCEL_OUT_OF_RANGE', swap.number, Uint8Array.of(2, 0, 0, 0), [file])
        await refused('ERR_ACCEL_OUT_OF_RANGE', files.number, Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0), [file])
        await refused('ERR_ACCEL_UNKNOWN_COMMAND', 0xffff, none, [file])
        await refused('ERR_ACCEL_OUT_OF_RANGE', swap.number, none, Array(100).fill(file))
        const many = await Promise.all(Array.from({ length: 100 }, () => dev.call('swap', { file })))
        for (const { file: answer } of many) sys.close(answer!)
        const two = await dev.dispatch(files.number, new Uint8Array(8))
        t.equal(two.fds.length, 2)
        for (const fd of two.fds) sys.close(fd)
        await t.rejects(dev.call('late', { file }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
        const controller = new AbortController()
        const bytes = late.in.encode({ file: null })
        const withdrawn = dev.dispatch(late.number, bytes, { signal: controller.signal })
        controller.abort()
        await t.rejects(withdrawn, { code: 'ERR_ACCEL_ABORTED' })
        sys.close(file)
        await sleep(50)
      }
      await leavesNothing(t, work)
      t.same(contractFailures, [], 'and not under the handler')
    })
  })

  t.test('an open is closed with what belongs to it; others notice nothing', async (t) => {
    await withDevice(async (open) => {
      const [dev, other] = [await open(), await open()]
      await other.call('keep', { count: 3 })
      await dev.call('keep', { count: 5 })
      t.equal((await other.call('state', {})).kept, 8)
      const hanging = dev.call('hang', {})
      await eventually(t, 'one call is pending', async () => (await other.call('state', {})).hanging === 1)
      const failed = t.rejects(hanging, { code: 'ERR_ACCEL_CLOSED' })
      const closing = dev.close()
      t.equal(dev.close(), closing, 'closed once')
      await failed
      await closing
      t.match(await other.call('state', {}), { kept: 3, hanging: 0 }, 'freed by the time that it is closed')
      await t.rejects(dev.call('add', { a: 1, b: 2 }), { code: 'ERR_ACCEL_CLOSED' })
      await t.rejects(dev.info(), { code: 'ERR_ACCEL_CLOSED' })
      await dev[Symbol.asyncDispose]()
      t.same(await other.call('add', { a: 1, b: 2 }), { sum: 3 })
    })
  })

  t.test('a device that goes ends all calls, and says why', async (t) => {
    await withDevice(async (open, accel) => {
      const dev = await open()
      const hanging = t.rejects(dev.call('hang', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
      await dev.call('add', { a: 1, b: 2 })
      await accel.remove('accel0')
      await hanging
      t.match(await dev.lost, { code: 'ERR_ACCEL_NO_DEVICE', message: 'accel0 was removed' })
      const error = await dev.call('add', { a: 1, b: 2 }).catch((caught) => caught)
      t.match(error, { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: 'accel0 was removed' } })
      await dev.close()
    })
  })

  t.test('nothing is left of a session', async (t) => {
    await withDevice(async (open) => {
      const work = async () => {
        const dev = await open()
        const hanging = dev.call('hang', {}).catch(() => {})
        await dev.call('keep', { count: 2 })
        await dev.close()
        await hanging
      }
      await leavesNothing(t, work)
    })
  })
}
