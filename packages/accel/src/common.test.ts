import { closeAll } from '@uaccel/sys'
import { AccelError, cmd, commonUapi, type ErrorCode, u32, uapi } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { BinaryClient } from './dispatch.test.helper.js'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, accelDriver } from './index.js'

const plain = uapi({ name: 'plain', version: 1, commands: { nop: cmd(0x40, { in: { id: u32 } }) } })

/** What a client may be answered, whatever it sends. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  'ERR_ACCEL_INVALID_ARGUMENT',
  'ERR_ACCEL_OUT_OF_RANGE',
  'ERR_ACCEL_NOT_FOUND',
  'ERR_ACCEL_NO_MEMORY',
  'ERR_ACCEL_PERMISSION',
  'ERR_ACCEL_UNSUPPORTED',
  'ERR_ACCEL_TIMEOUT',
  'ERR_ACCEL_UNKNOWN_COMMAND',
  'ERR_ACCEL_BAD_SIZE',
  'ERR_ACCEL_BAD_FLAGS',
  'ERR_ACCEL_RESERVED',
  'ERR_ACCEL_AGAIN',
  'ERR_ACCEL_CLOSED',
])

const numbers = Object.values(commonUapi.commands).map(({ number }) => number)

/** Mostly a command that there is, of about the right size, with a few bytes that are not zero. */
const message = fc
  .record({
    number: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...numbers) },
      { weight: 1, arbitrary: fc.integer({ min: -1, max: 0x3f }) },
    ),
    longer: fc.oneof(
      { weight: 9, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -8, max: 5000 }) },
    ),
    bytes: fc.array(fc.tuple(fc.nat(200), fc.oneof(fc.integer({ min: 0, max: 16 }), fc.nat(255))), {
      maxLength: 4,
    }),
    path: fc.constantFrom('', 'state', 'level', 'identity', 'counters/opens', 'none'),
  })
  .map(({ number, longer, bytes, path }) => {
    const known = Object.values(commonUapi.commands).find((command) => command.number === number)
    const data = new Uint8Array(Math.max(0, (known?.in.layout.sizeBytes ?? 8) + longer))
    if (known?.in.layout.fields[0]?.name === 'path' && data.length > 64) {
      data[0] = path.length
      data.set(Buffer.from(path), 4)
    }
    for (const [at, value] of bytes) if (at < data.length) data[at] = value
    return { number, data }
  })

t.test('whatever is sent is answered or refused, and nothing of it stays', async (t) => {
  const accel = new Accel({ limits: { settleMs: 50 }, quotas: { openBytes: 1 << 20 } })
  t.teardown(() => accel.close())
  let level = 1
  accel.register(
    accelDriver({
      name: 'plain',
      uapi: plain,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({
        commands: { nop: () => undefined },
        attributes: {
          level: {
            show: () => level,
            store(value) {
              level = Number(value)
            },
            type: 'integer',
            mode: 0o666,
          },
        },
        beforeReset() {},
        afterReset() {},
      }),
    }),
  )
  const node = await accel.add(new FakeTransport())
  const told = new Map<string, number>()
  const session = fc.asyncProperty(
    fc.array(message, { minLength: 1, maxLength: 40 }),
    fc.constantFrom(undefined, {}, { reset: true }),
    async (messages, rights) => {
      const client = new BinaryClient(node, rights ? { rights } : {})
      const answers = messages.map(async ({ number, data }) => {
        try {
          closeAll((await node.dispatch(client.open, number, data, { timeoutMs: 5 })).fds)
          return 'answered'
        } catch (error) {
          if (!(error instanceof AccelError) || !refusals.has(error.code)) throw error
          return error.code
        }
      })
      for (const answer of await Promise.all(answers)) told.set(answer, (told.get(answer) ?? 0) + 1)
      await client.close()
      if (node.opens.size !== 0) throw new Error('an open is left')
      const waiting = node.record.events.bell.waiting + node.attributes.watching
      if (waiting !== 0) throw new Error(`${waiting} waits are left`)
    },
  )
  await fc.assert(session, { numRuns: Number(process.env.UACCEL_FUZZ_RUNS ?? 300) })
  t.equal(node.state, 'live')
  for (const code of [
    'answered',
    'ERR_ACCEL_BAD_SIZE',
    'ERR_ACCEL_RESERVED',
    'ERR_ACCEL_NOT_FOUND',
    'ERR_ACCEL_PERMISSION',
  ])
    t.ok(
      told.get(code),
      `${code} was among ${[...told].map(([name, count]) => `${name} ${count}`).join(', ')}`,
    )
  t.equal(node.record.counters.submissions, 0, 'common commands are not counted')
})
