import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sys } from '@uaccel/sys'
import { contractUapi } from '@uaccel/testkit'
import { commonUapi, HEADER_BYTES, MAX_MESSAGE_BYTES, MessageKind } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import {
  describe,
  eventually,
  held,
  helloPayload,
  nodeFolder,
  RawClient,
  type RawHeader,
  type RawMessage,
  rawMessage,
  settled,
  startServer,
} from './nodes.js'

t.setTimeout(300_000)

/*
 * Every refusal of a node by its exact code, as a client meets it that speaks the protocol by hand.
 */

const { HELLO, REPLY, CANCEL, EVENT } = MessageKind
const { add, hang, swap, padded, fill } = contractUapi.commands
const limits = { maxRequests: 8, maxPendingBytes: 6000, maxFds: 16, stallMs: 1000 }

const folder = nodeFolder(t)
const path = join(folder, 'accel0')
const { process: server } = await startServer(t, 'contract', { folder, limits })
const pid = server.pid!

function rude<T>(use: (client: RawClient) => T): T {
  const client = new RawClient(path)
  try {
    return use(client)
  } finally {
    client.close()
  }
}

const sum = (client: RawClient) => {
  const answer = client.ask({ id: 99, code: add.number }, add.in.encode({ a: 1, b: 2 }))!
  return answer.code === 0 ? add.out.decode(answer.payload).sum : describe(answer).code
}

const first = new RawClient(path)
t.equal(sum(first.hello()), 3)
first.leave()
// Within a test, as tap ends what waits outside of one.
let before: Awaited<ReturnType<typeof settled>>
await t.test('what the server holds at rest', async (t) => {
  before = await settled(pid)
  t.ok(before.fds > 0)
})

/** The connection ends over it, and its last word has this code. */
function ends(
  t: Test,
  what: string,
  code: string,
  bytes: Uint8Array,
  fds: readonly number[] = [],
  greeted = true,
): void {
  rude((client) => {
    if (greeted) client.hello()
    client.send(bytes, fds)
    const last = client.receive()
    t.equal(last?.kind, EVENT, `${what}: the server says why`)
    t.equal(last && describe(last).code, code, `${what}: ${code}`)
    t.equal(client.receive(), undefined, `${what}: the end`)
  })
}

t.test('what is out of step ends the connection', async (t) => {
  const file = sys.memfdCreate('uaccel-test')
  const broken = 'ERR_ACCEL_PROTOCOL'
  for (const greeted of [true, false]) {
    const when = greeted ? 'after the hello' : 'before it'
    const over = (what: string, code: string, bytes: Uint8Array, fds: number[] = []) =>
      ends(t, `${what}, ${when}`, code, bytes, fds, greeted)
    over('a length below the header', broken, rawMessage({ length: HEADER_BYTES - 1 }))
    over('a length of 0', broken, rawMessage({ length: 0 }))
    over('a length of 4 GiB', broken, rawMessage({ length: 0xffff_ffff }))
    over('a byte more than a message can have', broken, rawMessage({ length: MAX_MESSAGE_BYTES + 1 }))
    over('more than this node takes', 'ERR_ACCEL_BAD_SIZE', rawMessage({ length: MAX_MESSAGE_BYTES }))
    over('text', broken, Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'))
    over('a descriptor that is missing', broken, rawMessage({ fdCount: 1, code: swap.number }))
    over('a descriptor that is not announced', broken, rawMessage({ code: swap.number }), [file])
    for (const kind of [0, REPLY, EVENT, 6, 0xffff]) over(`kind ${kind}`, broken, rawMessage({ kind }))
  }
  ends(
    t,
    'a request before the hello',
    broken,
    rawMessage({ code: add.number }, new Uint8Array(8)),
    [],
    false,
  )
  ends(t, 'a cancel before the hello', broken, rawMessage({ kind: CANCEL }), [], false)
  ends(t, 'a second hello', broken, rawMessage({ kind: HELLO }, helloPayload()))
  const hanging = rawMessage({ id: 7, code: hang.number })
  rude((client) => {
    client.hello().send(Buffer.concat([hanging, rawMessage({ id: 7, code: add.number }, new Uint8Array(8))]))
    t.equal(describe(client.receive()!).code, broken, 'an id that is pending')
    t.equal(client.receive(), undefined)
  })
  sys.close(file)
})

t.test('hellos that are refused', async (t) => {
  const greet = (payload: Uint8Array, header: RawHeader = {}, after?: (answer: RawMessage) => void) =>
    rude((client) => {
      const answer = client.ask({ kind: HELLO, id: 5, ...header }, payload)!
      t.equal(answer.kind, HELLO)
      t.equal(answer.id, 5)
      after?.(answer)
      if (answer.code !== 0) t.equal(client.receive(), undefined, 'the end')
      return describe(answer).code
    })
  const whole = helloPayload()
  t.equal(greet(whole), 'none')
  t.equal(greet(whole.subarray(1)), 'ERR_ACCEL_BAD_SIZE')
  t.equal(greet(new Uint8Array(0)), 'ERR_ACCEL_BAD_SIZE')
  t.equal(greet(Uint8Array.of(...whole, 0, 0)), 'none', 'a longer one of a later version')
  t.equal(greet(Uint8Array.of(...whole, 0, 1)), 'ERR_ACCEL_RESERVED')
  for (const header of [{ code: 1 }, { timeoutMs: 1 }, { reserved: 1 }]) {
    t.equal(greet(whole, header), 'ERR_ACCEL_RESERVED', JSON.stringify(header))
  }
  t.equal(greet(helloPayload({ protocol: 0 })), 'ERR_ACCEL_VERSION')
  t.equal(greet(helloPayload({ protocol: 9 })), 'none', 'the server answers the version that it speaks')
  t.equal(greet(helloPayload({ uapi: 'edu' })), 'ERR_ACCEL_VERSION')
  t.equal(greet(helloPayload({ uapi: '' })), 'ERR_ACCEL_VERSION')
  t.equal(
    greet(helloPayload({ uapi: 'common', version: commonUapi.version })),
    'none',
    'for the common commands',
  )
  t.equal(
    greet(helloPayload({ digest: new Uint8Array(32) })),
    'ERR_ACCEL_VERSION',
    'one version, two layouts',
  )
  t.equal(greet(helloPayload({ digest: new Uint8Array(32), version: 2 })), 'none', 'a newer one')
  t.equal(greet(helloPayload({ digest: new Uint8Array(0) })), 'none', 'one that does not compare')
  rude((client) => {
    const answer = client.receive()!
    t.equal(answer.kind, EVENT)
    t.equal(describe(answer).code, 'ERR_ACCEL_TIMEOUT', 'one that says nothing is not waited for')
    t.equal(client.receive(), undefined)
  })
})

t.test('requests that are refused, each by its own answer', async (t) => {
  const file = sys.memfdCreate('uaccel-test')
  rude((client) => {
    client.hello()
    let id = 0
    const refused = (
      what: string,
      code: string,
      header: RawHeader,
      payload?: Uint8Array,
      fds: number[] = [],
    ) => {
      const answer = client.ask({ id: ++id, ...header }, payload, fds)
      t.equal(answer?.kind, REPLY)
      t.equal(answer?.id, id)
      t.equal(answer && describe(answer).code, code, what)
      t.equal(sum(client), 3, 'and the connection goes on')
    }
    const good = add.in.encode({ a: 1, b: 2 })
    const { number } = add
    refused('unknown command', 'ERR_ACCEL_UNKNOWN_COMMAND', { code: 0x3f }, good)
    refused('unknown command', 'ERR_ACCEL_UNKNOWN_COMMAND', { code: 0xfff }, good)
    refused('a number of more than 16 bits', 'ERR_ACCEL_UNKNOWN_COMMAND', { code: 0x1_0000 + number }, good)
    refused('short', 'ERR_ACCEL_BAD_SIZE', { code: number }, good.subarray(1))
    refused('empty', 'ERR_ACCEL_BAD_SIZE', { code: number })
    refused('long', 'ERR_ACCEL_BAD_SIZE', { code: number }, new Uint8Array(good.length + 4097))
    refused('a tail that is not zero', 'ERR_ACCEL_RESERVED', { code: number }, Uint8Array.of(...good, 1))
    refused('a tail of a common command', 'ERR_ACCEL_RESERVED', { code: 0 }, Uint8Array.of(1))
    const some = padded.in.encode({ small: 1, how: {} })
    refused('an unknown flag', 'ERR_ACCEL_BAD_FLAGS', { code: padded.number }, some.with(4, 2))
    refused('padding that is not zero', 'ERR_ACCEL_RESERVED', { code: padded.number }, some.with(2, 1))
    refused('the reserved word', 'ERR_ACCEL_RESERVED', { code: number, reserved: 1 }, good)
    refused('a limit too large', 'ERR_ACCEL_OUT_OF_RANGE', { code: number, timeoutMs: 2 ** 31 }, good)
    refused('its limit passed', 'ERR_ACCEL_TIMEOUT', { code: hang.number, timeoutMs: 10 })
    const zeros = new Uint8Array(4)
    refused('a descriptor without a place', 'ERR_ACCEL_OUT_OF_RANGE', { code: number }, good, [file])
    refused('a descriptor without a place', 'ERR_ACCEL_OUT_OF_RANGE', { code: swap.number }, zeros, [file])
    refused(
      'a place without a descriptor',
      'ERR_ACCEL_OUT_OF_RANGE',
      { code: swap.number },
      Uint8Array.of(2, 0, 0, 0),
      [file],
    )
    refused(
      'too many descriptors',
      'ERR_ACCEL_OUT_OF_RANGE',
      { code: swap.number },
      zeros,
      Array(17).fill(file),
    )
    refused(
      'as many as can be',
      'ERR_ACCEL_OUT_OF_RANGE',
      { code: swap.number },
      zeros,
      Array(253).fill(file),
    )
    const folderFd = sys.open(folder, 0)
    refused(
      'a descriptor of the wrong kind',
      'ERR_ACCEL_SYSTEM',
      { code: swap.number },
      Uint8Array.of(1, 0, 0, 0),
      [folderFd],
    )
    sys.close(folderFd)
    client.send(rawMessage({ kind: CANCEL, id: 12345 }))
    t.equal(sum(client), 3, 'a cancel of nothing is nothing')
  })
  sys.close(file)
})

t.test('what one connection may have under way', async (t) => {
  const limited = (messages: Buffer, code: string, details: object, fds: number[] = []) =>
    rude((client) => {
      client.hello().send(messages, fds)
      const answer = client.receive()!
      t.same(describe(answer).code, code)
      t.same(describe(answer).details, details)
      t.equal(answer.id, 1000)
      client.send(rawMessage({ kind: CANCEL, id: 1 }))
      const cancelled = client.receive()!
      t.equal(cancelled.id, 1)
      t.equal(describe(cancelled).code, 'ERR_ACCEL_ABORTED', 'the driver was told')
      t.equal(sum(client), 3, 'what has room again is served')
    })
  const hangs = (count: number, sizeBytes = 0) =>
    Array.from({ length: count }, (_, i) =>
      rawMessage({ id: i + 1, code: hang.number }, new Uint8Array(sizeBytes)),
    )
  const more = (sizeBytes: number) => rawMessage({ id: 1000, code: hang.number }, new Uint8Array(sizeBytes))
  limited(Buffer.concat([...hangs(8), more(0)]), 'ERR_ACCEL_AGAIN', { limit: 8 })
  limited(Buffer.concat([...hangs(3, 2000), more(1)]), 'ERR_ACCEL_AGAIN', { limit: 6000 })
  rude((client) => {
    const file = sys.memfdCreate('uaccel-test')
    const { late } = contractUapi.commands
    client.hello()
    for (let id = 1; id <= 7; id++) {
      client.send(
        rawMessage({ id, code: late.number, fdCount: 1, timeoutMs: 5000 }, Uint8Array.of(1, 0, 0, 0)),
        [file],
      )
    }
    const answer = client.ask({ id: 1000, code: swap.number }, new Uint8Array(4), Array(10).fill(file))!
    t.same(describe(answer).code, 'ERR_ACCEL_AGAIN', '17 descriptors under way')
    t.same(describe(answer).details, { limit: 16 })
    sys.close(file)
  })
})

t.test('a client that leaves while its calls are pending', async (t) => {
  rude((client) =>
    client.hello().send(Buffer.concat([1, 2, 3].map((id) => rawMessage({ id, code: hang.number })))),
  )
  const { state } = contractUapi.commands
  const hanging = () =>
    rude((client) => {
      const answer = client.hello().ask({ id: 1, code: state.number })!
      return state.out.decode(answer.payload)
    })
  t.ok(await eventually(() => hanging().hanging === 0))
  t.ok(hanging().closed >= 3, 'the driver was told why')
})

t.test('a client that does not read is bounded and cut off', async (t) => {
  await new Promise((resolve) => setTimeout(resolve, 50))
  const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
  const started = rss()
  const client = new RawClient(path)
  client.hello()
  sys.setNonblocking(client.fd)
  const ask = rawMessage({ id: 0, code: fill.number }, fill.in.encode({ sizeBytes: 65_536 }))
  let asked = 0
  const limit = performance.now() + 30_000
  try {
    while (performance.now() < limit) {
      ask.writeUInt32LE(asked + 1, 4)
      if (sys.send(client.fd, ask) === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
      else asked++
    }
    t.fail('it was never cut off')
  } catch (error) {
    t.match(error, { code: 'ERR_ACCEL_CLOSED' }, `cut off after ${asked} requests`)
  }
  client.close()
  t.ok(rss() - started < 64 << 10, 'its answers were not piled up')
})

t.test('nothing is left of all that', async (t) => {
  t.ok(await eventually(() => held(pid).fds === before.fds))
  t.same(held(pid), before)
  t.equal(
    rude((client) => sum(client.hello())),
    3,
  )
  t.equal(server.exitCode, null)
})
