import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, type AccelDriver, type AccelNode, type AnyDriver } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import {
  type CallOptions,
  type DeviceClient,
  FIRST_DRIVER_COMMAND,
  MAX_TAIL_BYTES,
  type QueryKind,
  queryUapi,
  type Uapi,
} from '@uaccel/uapi'
import type { Test } from 'tap'
import { leavesNothing } from './resources.js'

/** A driver, and what the suite has to know of its device. */
export interface DriverUnderTest<U extends Uapi> {
  readonly driver: AccelDriver<U>
  /** Has the device do something, and throws where the answer is wrong. `options` go to the call. */
  works(client: DeviceClient<U>, options?: CallOptions): Promise<unknown>
  /** A call that takes the device 0.1 s at least, so that it can be given up midway. Without it that is left to chance. */
  slow?(client: DeviceClient<U>, options?: CallOptions): Promise<unknown>
  /** The driver has no `recover`, and the device is reset in its place. Default false: a recovery that fails fails the test. */
  readonly recoversByReset?: boolean
}

/** The same, and a way to the device. */
export interface DriverContractOptions<U extends Uapi, T extends Transport> extends DriverUnderTest<U> {
  /** Connects to the device anew; the suite closes what it gets. */
  open(): Promise<T>
  /** Takes the device away while it is in use, such as `vanish` of the loopback. `open` brings it back. */
  lose?(transport: T): unknown
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): unknown
}

/** Moments at which calls are given up, in ms after they were made. */
const MOMENTS_MS = [0, 1, 3, 10, 30] as const

/** What every driver must do, whatever its device is for. Each mishap is followed by work that has to succeed. */
export function driverContract<U extends Uapi, T extends Transport>(
  t: Test,
  options: DriverContractOptions<U, T>,
): void {
  const { driver, works, slow, lose, verify, recoversByReset = false } = options

  /** A subsystem with the device in it, for one test. */
  async function withDevice(
    t: Test,
    work: (device: {
      accel: Accel
      node: AccelNode
      transport: T
      client: () => DeviceClient<U>
    }) => Promise<void>,
  ): Promise<void> {
    const accel = new Accel()
    const errors: Error[] = []
    accel.on('error', (error) => errors.push(error))
    accel.register(driver as AnyDriver)
    const transport = await options.open()
    try {
      const node = await accel.add(transport)
      await work({ accel, node, transport, client: () => accel.open(driver.uapi, 'accel0') })
    } finally {
      await accel.close()
    }
    const unexpected = errors.filter(({ message }) => !(recoversByReset && / did not recover /.test(message)))
    t.same(unexpected.map(describe), [], 'nothing failed behind the calls')
    await verify?.(transport)
  }

  t.test('comes up, works, and tells which device it is', (t) =>
    withDevice(t, async ({ client, node: { identity } }) => {
      const dev = client()
      await works(dev)
      const ids = identity.bus === 'pci' ? { vendor: identity.vendor, device: identity.device } : {}
      t.match(await dev.info(), { driver: driver.name, bus: identity.bus, ...ids })
      t.match(await dev.version(), { uapi: driver.uapi.name, version: driver.uapi.version })
    }),
  )

  t.test('all that it tells of itself can be read', (t) =>
    withDevice(t, async ({ client }) => {
      const dev = client()
      await works(dev)
      for (const kind of Object.keys(queryUapi.commands) as QueryKind[]) await dev.query(kind)
      for (const path of await attributePaths(dev)) await dev.common('attrShow', { path })
      t.pass('each kind of query, each attribute')
    }),
  )

  t.test('commands that it does not have, or of another size, are refused', (t) =>
    withDevice(t, async ({ client }) => {
      const dev = client()
      const refused = (code: string, number: number, bytes: Uint8Array) =>
        t.rejects(dev.dispatch(number, bytes), { code }, `${code} for 0x${number.toString(16)}`)
      const commands = Object.values(driver.uapi.commands)
      const unknown = firstFree(new Set(commands.map(({ number }) => number)))
      await refused('ERR_ACCEL_UNKNOWN_COMMAND', unknown, new Uint8Array(0))
      for (const command of commands) {
        const { sizeBytes, minSizeBytes } = command.in.layout
        if (minSizeBytes > 0)
          await refused('ERR_ACCEL_BAD_SIZE', command.number, new Uint8Array(minSizeBytes - 1))
        const tooLong = new Uint8Array(sizeBytes + MAX_TAIL_BYTES + 1)
        await refused('ERR_ACCEL_BAD_SIZE', command.number, tooLong)
        const unknownTail = new Uint8Array(sizeBytes + 1).fill(1, sizeBytes)
        await refused('ERR_ACCEL_RESERVED', command.number, unknownTail)
      }
      await works(dev)
    }),
  )

  t.test('calls of several opens at once do not disturb each other', (t) =>
    withDevice(t, async ({ client }) => {
      const opens = [client(), client(), client()]
      await Promise.all([...opens, ...opens, ...opens].map((dev) => works(dev)))
      t.pass('each was right')
    }),
  )

  for (const [how, code] of [
    ['aborted', 'ERR_ACCEL_ABORTED'],
    ['timed out', 'ERR_ACCEL_TIMEOUT'],
  ] as const) {
    t.test(`a call that was ${how} costs its caller that call, and nobody else anything`, (t) =>
      withDevice(t, async ({ client }) => {
        const [culprit, other] = [client(), client()]
        for (const moment of MOMENTS_MS) {
          const controller = new AbortController()
          const limit = how === 'aborted' ? { signal: controller.signal } : { timeoutMs: Math.max(1, moment) }
          const outcomes = Promise.allSettled([(slow ?? works)(culprit, limit), works(other)])
          await sleep(moment)
          controller.abort()
          const [given, kept] = await outcomes
          if (slow || given.status === 'rejected')
            t.match(given, { status: 'rejected', reason: { code } }, `after ${moment} ms`)
          if (kept.status === 'rejected') throw kept.reason
          await works(culprit)
        }
      }),
    )
  }

  t.test('works again after a reset', async (t) =>
    withDevice(t, async ({ client, transport }) => {
      const dev = client()
      if (transport.resets.length === 0) {
        await t.rejects(
          dev.common('reset', { kind: 'default', reason: 'a test' }),
          { code: 'ERR_ACCEL_UNSUPPORTED' },
          'the device has no reset',
        )
        await works(dev)
        return
      }
      await works(dev)
      await dev.common('reset', { kind: 'default', reason: 'a test' })
      await works(client())
    }),
  )

  t.test('is removed with calls pending, and added again', (t) =>
    withDevice(t, async ({ accel, client }) => {
      const dev = client()
      const outcomes = Promise.allSettled([(slow ?? works)(dev), works(dev)])
      await sleep(5)
      await accel.remove('accel0')
      for (const outcome of await outcomes) endsWithDevice(t, outcome)
      await t.rejects(works(dev), { code: 'ERR_ACCEL_NO_DEVICE' }, 'an open does not outlive its device')
      await accel.add(await options.open())
      await works(client())
    }),
  )

  if (lose) {
    t.test('a device that is lost ends its calls at once', (t) =>
      leavesNothing(t, async () => {
        const accel = new Accel()
        accel.register(driver as AnyDriver)
        const transport = await options.open()
        await accel.add(transport)
        const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
        const dev = accel.open(driver.uapi, 'accel0')
        const outcomes = Promise.allSettled([(slow ?? works)(dev), works(dev)])
        await sleep(5)
        await lose(transport)
        for (const outcome of await outcomes) endsWithDevice(t, outcome)
        t.ok(await dev.lost, 'its clients are told')
        await removed
        await accel.close()
      }),
    )
  }

  t.test('leaves nothing when it is removed, however often it was there', async (t) =>
    leavesNothing(t, () =>
      withDevice(t, async ({ client }) => {
        const dev = client()
        await works(dev)
        await dev.close()
      }),
    ),
  )
}

/** A call on a device that went either was done before, or says that the device is gone. */
function endsWithDevice(t: Test, outcome: PromiseSettledResult<unknown>): void {
  if (outcome.status === 'rejected')
    t.equal((outcome.reason as { code?: string }).code, 'ERR_ACCEL_NO_DEVICE', String(outcome.reason))
}

/** The attributes that may be read. */
async function attributePaths(dev: DeviceClient<Uapi>): Promise<string[]> {
  const paths: string[] = []
  let from = 0
  while (true) {
    const { total, entries } = await dev.common('attrList', { path: '', from })
    for (const { path, mode } of entries) if (mode & 0o444) paths.push(path)
    from += entries.length
    if (entries.length === 0 || from >= total) return paths
  }
}

/** A command number of drivers' that this one does not use. */
function firstFree(used: ReadonlySet<number>): number {
  let number = FIRST_DRIVER_COMMAND
  while (used.has(number)) number++
  return number
}

function describe(error: Error): string {
  const cause = error.cause instanceof Error ? `: ${describe(error.cause)}` : ''
  return `${error.message}${cause}`
}
