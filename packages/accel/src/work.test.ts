import { abi, EventFd, Mapping, sys } from '@uaccel/sys'
import { accelError, cmd, commonUapi, isAccelError, u32, uapi } from '@uaccel/uapi'
import t from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, accelDriver } from './index.js'
import {
  bo,
  codeOf,
  createBo,
  fence,
  held,
  inMs,
  jobOf,
  send,
  toy,
  turn,
  waitFor,
} from './work.test.helper.js'

t.test('a buffer object is memory that the client maps itself, sealed', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  const { handle, sizeBytes } = await send(client, 'boCreate', { sizeBytes: 5000n, flags: {} })
  t.equal(sizeBytes, 8192n)
  const { fd, offset, sizeBytes: mappable } = await send(client, 'boMmap', { handle, flags: {} })
  t.same([offset, mappable], [0n, 8192n])
  t.equal(sys.getSeals(fd!) & abi.F_SEAL_SHRINK, abi.F_SEAL_SHRINK)
  t.throws(() => sys.ftruncate(fd!, 4096), { code: 'ERR_ACCEL_PERMISSION' })
  const mapping = Mapping.map({ fd: fd!, offset: 0, sizeBytes: 8192, label: 'client' })
  sys.close(fd!)
  mapping.window.u8[5] = 42
  await send(client, 'submit', {
    ...jobOf(),
    buffers: [{ handle, access: 'read', offset: 5n, sizeBytes: 7n }],
    payload: Uint8Array.of(1, 2),
  })
  const [range] = taken[0]!.ranges
  t.match(range, { offset: 5, sizeBytes: 7, access: 'read' })
  t.equal(range!.memory.u8[5], 42, 'the driver sees what the client wrote')
  t.same([...taken[0]!.payload], [1, 2])
  taken[0]!.finish()
  for (const direction of ['toDevice', 'fromDevice'] as const) {
    await send(client, 'boSync', { handle, direction, offset: 8n, sizeBytes: 8184n })
  }
  await send(client, 'boDestroy', { handle })
  await client.close()
  t.equal(mapping.window.u8[5], 42, 'the mapping of the client is its own')
  mapping.revoke()
})

t.test('handles: foreign, closed, of another kind, twice, never the same again', async (t) => {
  const { open } = await toy(t)
  const [a, b] = [open(), open()]
  const handle = await createBo(a)
  const everyUse = (client: typeof a, name: number) => [
    send(client, 'boInfo', { handle: bo(name) }),
    send(client, 'boMmap', { handle: bo(name), flags: {} }),
    send(client, 'boSync', { handle: bo(name), direction: 'toDevice', offset: 0n, sizeBytes: 1n }),
    send(client, 'boWait', { handle: bo(name), deadlineNs: inMs(1000) }),
    send(client, 'boDestroy', { handle: bo(name) }),
    send(client, 'boExport', { handle: bo(name), kind: 'memory', flags: {} }),
    send(client, 'submit', jobOf([[name]])),
  ]
  const codes = (calls: Promise<unknown>[]) => Promise.all(calls.map(codeOf))
  const all = (code: string) => Array(7).fill(code)
  t.same(await codes(everyUse(b, handle)), all('ERR_ACCEL_NOT_FOUND'), 'of another open')
  t.same(await codes(everyUse(a, 0)), all('ERR_ACCEL_NOT_FOUND'))
  t.same(await codes(everyUse(a, 0xffff_ffff)), all('ERR_ACCEL_NOT_FOUND'))
  const made = await send(a, 'fenceCreate', { initialValue: 0n, flags: {} })
  t.same(await codes(everyUse(a, made.handle)), all('ERR_ACCEL_NOT_FOUND'), 'a fence')
  t.equal(await codeOf(send(a, 'fenceDestroy', { handle: fence(handle) })), 'ERR_ACCEL_NOT_FOUND')
  await send(a, 'boDestroy', { handle })
  t.same(await codes(everyUse(a, handle)), all('ERR_ACCEL_CLOSED'), 'destroyed')
  await send(a, 'fenceDestroy', made)
  t.equal(await codeOf(send(a, 'fenceDestroy', made)), 'ERR_ACCEL_CLOSED')
  t.equal(await codeOf(waitFor(a, [[made.handle, 0]])), 'ERR_ACCEL_CLOSED')
  t.equal(await codeOf(send(a, 'fenceEvent', { ...made, value: 0n, flags: {} })), 'ERR_ACCEL_CLOSED')
  t.not(await createBo(a), handle)
  await b.close()
  t.equal(await codeOf(createBo(b)), 'ERR_ACCEL_CLOSED')
})

t.test('commands act in the order in which they were sent, whoever waits for their answers', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  const handle = await createBo(client)
  const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const codes = [
    send(client, 'submit', jobOf([[handle]], [], [done, 1])),
    waitFor(client, [[done, 1]]),
    send(client, 'submit', jobOf([[handle]], [[done, 1]], [done, 2])),
    send(client, 'boDestroy', { handle }),
    send(client, 'submit', jobOf([[handle]])),
    send(client, 'fenceDestroy', { handle: done }),
    waitFor(client, [[done, 2]]),
  ].map(codeOf)
  taken[0]!.finish()
  await turn()
  taken[1]!.finish()
  const ok = 'accepted'
  const closed = 'ERR_ACCEL_CLOSED'
  t.same(await Promise.all(codes), [ok, ok, ok, ok, closed, ok, closed])
})

t.test('sizes and ranges', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  const sized = (sizeBytes: bigint) => codeOf(send(client, 'boCreate', { sizeBytes, flags: {} }))
  t.equal(await sized(0n), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await sized((1n << 64n) - 1n), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await sized(1n << 50n), 'ERR_ACCEL_NO_MEMORY')
  const handle = await createBo(client, 8192)
  const max = (1n << 64n) - 1n
  const bad: [offset: bigint, sizeBytes: bigint][] = [
    [8192n, 1n],
    [8191n, 2n],
    [0n, 8193n],
    [max, 1n],
    [max, max],
    [1n, max],
    [1n << 53n, 1n],
  ]
  for (const [offset, sizeBytes] of bad) {
    const buffers = [{ handle, access: 'read' as const, offset, sizeBytes }]
    t.equal(await codeOf(send(client, 'submit', { ...jobOf(), buffers })), 'ERR_ACCEL_OUT_OF_RANGE')
    const sync = send(client, 'boSync', { handle, direction: 'fromDevice', offset, sizeBytes })
    t.equal(await codeOf(sync), 'ERR_ACCEL_OUT_OF_RANGE')
  }
  const empty = [{ handle, access: 'read' as const, offset: 0n, sizeBytes: 0n }]
  t.equal(await codeOf(send(client, 'submit', { ...jobOf(), buffers: empty })), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(taken.length, 0, 'the driver saw none of them')
})

t.test('bytes that mean nothing: flags, padding, enumerations, counts, sizes, descriptors', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  const handle = await createBo(client)
  const made = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const inputs = {
    boCreate: { sizeBytes: 4096n, flags: {} },
    boInfo: { handle },
    boMmap: { handle, flags: {} },
    boSync: { handle, direction: 'toDevice', offset: 0n, sizeBytes: 1n },
    boWait: { handle, deadlineNs: 0n },
    submit: jobOf([[handle]], [], [made.handle, 1]),
    wait: { points: [{ fence: made.handle, value: 0n }], deadlineNs: 0n, flags: {} },
    fenceCreate: { initialValue: 0n, flags: {} },
    fenceEvent: { handle: made.handle, flags: {}, value: 9n },
    boDestroy: { handle },
    boExport: { handle, kind: 'memory', flags: {} },
    boImport: { fd: null, flags: {} },
    fenceDestroy: { handle: made.handle },
  }
  for (const [name, input] of Object.entries(inputs)) {
    const command = commonUapi.byName(name)
    const bytes = command.in.encode(input)
    const refusal = (change: (bytes: Uint8Array) => Uint8Array) =>
      codeOf(client.dispatch(command.number, change(bytes.slice())))
    t.equal(await refusal((b) => b.subarray(1)), 'ERR_ACCEL_BAD_SIZE', `${name}, short`)
    const long = (b: Uint8Array) => Uint8Array.from([...b, 1])
    t.equal(await refusal(long), 'ERR_ACCEL_RESERVED', `${name}, longer and not zero`)
    for (const { name: field, offset } of command.in.layout.fields) {
      const flag = (b: Uint8Array) => {
        b[offset + 3] = 0x80
        return b
      }
      if (field === 'flags') t.equal(await refusal(flag), 'ERR_ACCEL_BAD_FLAGS', `${name}.flags`)
    }
    for (const [from] of command.in.layout.reserved) {
      const dirty = (b: Uint8Array) => {
        b[from] = 1
        return b
      }
      t.equal(await refusal(dirty), 'ERR_ACCEL_RESERVED', `${name}, byte ${from}`)
    }
  }
  const wrong = (name: string, field: string, at: number, value: number) => {
    const command = commonUapi.byName(name)
    const bytes = command.in.encode(inputs[name as keyof typeof inputs])
    const { offset } = command.in.layout.fields.find((found) => found.name === field)!
    new DataView(bytes.buffer).setUint32(offset + at, value, true)
    return codeOf(client.dispatch(command.number, bytes))
  }
  t.equal(await wrong('boSync', 'direction', 0, 2), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await wrong('boExport', 'kind', 0, 2), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await wrong('boImport', 'fd', 0, 1), 'ERR_ACCEL_OUT_OF_RANGE', 'a descriptor that did not come')
  t.equal(await wrong('submit', 'buffers', 0, 33), 'ERR_ACCEL_OUT_OF_RANGE', 'more than there is room for')
  t.equal(await wrong('submit', 'buffers', 8 + 4, 3), 'ERR_ACCEL_OUT_OF_RANGE', 'access')
  t.equal(await wrong('submit', 'buffers', 8 + 24, 1), 'ERR_ACCEL_RESERVED', 'behind the last')
  t.equal(await wrong('submit', 'signal', 4, 1), 'ERR_ACCEL_RESERVED', 'padding of a point')
  t.equal(await wrong('submit', 'payload', 0, 8193), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await wrong('wait', 'points', 0, 17), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await codeOf(client.dispatch(0x1f, new Uint8Array())), 'ERR_ACCEL_UNKNOWN_COMMAND')
  t.equal(await codeOf(waitFor(client, [])), 'ERR_ACCEL_INVALID_ARGUMENT')
  t.equal(await codeOf(send(client, 'submit', jobOf([], [], [0, 5]))), 'ERR_ACCEL_INVALID_ARGUMENT')
  t.equal(taken.length, 0)
})

t.test('quotas of an open and of a node, and what gives them back', async (t) => {
  const { open, node, taken } = await toy(t)
  const [a, b, c, d] = [open(), open(), open(), open()]
  const handle = await createBo(a, 1 << 20)
  const full = await createBo(a).catch((error) => error)
  t.ok(isAccelError(full, 'ERR_ACCEL_NO_MEMORY'))
  t.match(full.details, { unit: 'bytes', wanted: 4096, used: 1 << 20, limit: 1 << 20 })
  t.match(full.message, 'open 1 of accel0 uses 1048576 of the 1048576')
  await createBo(b, 1 << 20)
  await createBo(c, 1 << 20)
  t.match(await createBo(d).catch(({ message }) => message), 'accel0 uses 3145728')
  // A job holds the memory, and what it is charged with, beyond the handle.
  await send(a, 'submit', jobOf([[handle]]))
  await send(a, 'boDestroy', { handle })
  t.equal(await codeOf(createBo(a)), 'ERR_ACCEL_NO_MEMORY')
  t.equal(node.work.quarantinedBytes, 1 << 20)
  taken[0]!.finish()
  await turn()
  t.equal(node.work.quarantinedBytes, 0)
  await createBo(a)
  await createBo(d)
  // Fences and events count as objects.
  for (let i = 1; i < 15; i++) await send(a, 'fenceCreate', { initialValue: 0n, flags: {} })
  const last = await send(a, 'fenceCreate', { initialValue: 0n, flags: {} })
  for (const refused of [
    send(a, 'fenceCreate', { initialValue: 0n, flags: {} }),
    send(a, 'fenceEvent', { ...last, value: 1n, flags: {} }),
    createBo(a),
  ]) {
    t.match(await refused.catch(({ code, details }) => ({ code, details })), {
      code: 'ERR_ACCEL_NO_MEMORY',
      details: { unit: 'objects', used: 16, limit: 16 },
    })
  }
  await Promise.all([a, b, c, d].map((client) => client.close()))
  const e = open()
  await createBo(e, 1 << 20)
})

t.test('jobs of an open are bounded, and a driver that takes none says so', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  for (let i = 0; i < 8; i++) await send(client, 'submit', jobOf())
  const error = await send(client, 'submit', jobOf()).catch((caught) => caught)
  t.match(error, { code: 'ERR_ACCEL_AGAIN', details: { used: 8, limit: 8 } })
  t.equal(taken.length, 1, 'one at a time, as the driver said')
  taken[0]!.finish()
  await turn()
  t.same(await send(client, 'submit', jobOf()), { job: 9n })
  const accel = new Accel()
  t.teardown(() => accel.close())
  const plain = uapi({ name: 'plain', version: 1, commands: { go: cmd(0x40, { in: { n: u32 } }) } })
  accel.register(
    accelDriver({
      name: 'plain',
      uapi: plain,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({ commands: { go: () => undefined } }),
    }),
  )
  await accel.add(new FakeTransport())
  const other = accel.open(plain, 'accel0')
  await createBo(other)
  t.equal(await codeOf(send(other, 'submit', jobOf())), 'ERR_ACCEL_UNSUPPORTED')
})

t.test('fences: promises grow, waits end at the value, at the deadline, or are refused', async (t) => {
  const { open, taken } = await toy(t, { depth: 2 })
  const client = open()
  const { handle } = await send(client, 'fenceCreate', { initialValue: 5n, flags: {} })
  t.same(await waitFor(client, [[handle, 5]], { ms: -1 }), { index: 0 }, 'reached, deadline or not')
  t.equal(await codeOf(waitFor(client, [[handle, 6]])), 'ERR_ACCEL_OUT_OF_RANGE', 'nobody promised it')
  t.equal(await codeOf(waitFor(client, [[handle, 6]], { ms: 5, forSubmit: true })), 'ERR_ACCEL_TIMEOUT')
  t.equal(await codeOf(send(client, 'submit', jobOf([], [[handle, 6]]))), 'ERR_ACCEL_OUT_OF_RANGE')
  const early = waitFor(client, [[handle, 6]], { forSubmit: true })
  await send(client, 'submit', jobOf([], [], [handle, 6]))
  await send(client, 'submit', jobOf([], [], [handle, 8]))
  for (const value of [0, 5, 6, 8]) {
    t.equal(await codeOf(send(client, 'submit', jobOf([], [], [handle, value]))), 'ERR_ACCEL_OUT_OF_RANGE')
  }
  t.equal(await codeOf(waitFor(client, [[handle, 6]], { ms: 0 })), 'ERR_ACCEL_TIMEOUT', 'only a look')
  const start = process.hrtime.bigint()
  t.equal(await codeOf(waitFor(client, [[handle, 6]], { ms: 30 })), 'ERR_ACCEL_TIMEOUT')
  t.ok(process.hrtime.bigint() - start >= 30_000_000n, 'never early')
  const late = waitFor(client, [[handle, 7]])
  taken[1]!.finish()
  await turn()
  t.equal(await codeOf(waitFor(client, [[handle, 8]], { ms: 0 })), 'ERR_ACCEL_TIMEOUT', '6 comes before 8')
  taken[0]!.finish()
  t.same(await Promise.all([early, late]), [{ index: 0 }, { index: 0 }])
  t.same(await waitFor(client, [[handle, 8]], { ms: 0 }), { index: 0 })
  const other = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  await send(client, 'submit', jobOf([], [], [handle, 9]))
  await send(client, 'submit', jobOf([], [], [other.handle, 1]))
  const points = [
    [handle, 9],
    [other.handle, 1],
  ] as const
  const any = waitFor(client, points, { any: true })
  const all = waitFor(client, points)
  taken[3]!.finish()
  t.same(await any, { index: 1 })
  t.equal(
    await codeOf(Promise.race([all, turn().then(() => Promise.reject(new Error('waits')))])),
    'Error: waits',
  )
  taken[2]!.finish()
  t.same(await all, { index: 0 })
})

t.test('waits end with their open, their caller, their fence and their device', async (t) => {
  const { open, accel } = await toy(t)
  const [a, b] = [open(), open()]
  const { handle } = await send(a, 'fenceCreate', { initialValue: 0n, flags: {} })
  const command = commonUapi.byName('wait')
  const bytes = command.in.encode({
    points: [{ fence: handle, value: 1n }],
    deadlineNs: (1n << 64n) - 1n,
    flags: { forSubmit: true },
  })
  const controller = new AbortController()
  const aborted = codeOf(a.dispatch(command.number, bytes, { signal: controller.signal }))
  controller.abort()
  t.equal(await aborted, 'ERR_ACCEL_ABORTED')
  t.equal(await codeOf(a.dispatch(command.number, bytes, { timeoutMs: 5 })), 'ERR_ACCEL_TIMEOUT')
  const destroyed = codeOf(a.dispatch(command.number, bytes))
  await send(a, 'fenceDestroy', { handle })
  t.equal(await destroyed, 'ERR_ACCEL_CLOSED')
  const second = await send(b, 'fenceCreate', { initialValue: 0n, flags: {} })
  const closed = codeOf(waitFor(b, [[second.handle, 1]], { forSubmit: true }))
  await b.close()
  t.equal(await closed, 'ERR_ACCEL_CLOSED')
  const third = await send(a, 'fenceCreate', { initialValue: 0n, flags: {} })
  const removed = codeOf(waitFor(a, [[third.handle, 1]], { forSubmit: true }))
  await accel.remove('accel0')
  t.equal(await removed, 'ERR_ACCEL_NO_DEVICE')
})

t.test('fence events: an eventfd at the value, at a failure, and when it cannot come any more', async (t) => {
  const { open, taken } = await toy(t)
  const client = open()
  const event = async (handle: number, value: number) => {
    const { fd } = await send(client, 'fenceEvent', {
      handle: fence(handle),
      value: BigInt(value),
      flags: {},
    })
    return new EventFd(sys, fd!)
  }
  const { handle } = await send(client, 'fenceCreate', { initialValue: 3n, flags: {} })
  const other = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const before = held().fds
  const [reached, one, two, never, kept] = await Promise.all([
    event(handle, 3),
    event(handle, 4),
    event(handle, 5),
    event(other.handle, 1),
    event(handle, 100),
  ])
  t.equal(reached.drain(), 1)
  t.equal(one.drain(), 0)
  await send(client, 'submit', jobOf([], [], [handle, 4]))
  await send(client, 'submit', jobOf([], [], [handle, 5]))
  taken[0]!.finish()
  await turn()
  t.same([one.drain(), two.drain()], [1, 0])
  taken[1]!.fail(accelError('ERR_ACCEL_IO', 'the toy broke'))
  await turn()
  t.equal(two.drain(), 1)
  t.equal(await codeOf(waitFor(client, [[handle, 5]])), 'ERR_ACCEL_IO')
  await send(client, 'fenceDestroy', other)
  t.equal(never.drain(), 1)
  t.equal(kept.drain(), 0)
  // A client that fills the counter and makes it blocking harms itself alone.
  kept.signal((1n << 64n) - 2n)
  sys.setNonblocking(kept.fd, false)
  await client.close()
  for (const each of [reached, one, two, never, kept]) each.close()
  t.equal(held().fds, before)
})

t.test('a job that fails says so to all that build on it, and to nobody else', async (t) => {
  const { open, taken, log } = await toy(t, { depth: 4 })
  const client = open()
  const buffers = [await createBo(client), await createBo(client)]
  const { handle } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const submit = (value: number, use: number, waits: [number, number][] = []) =>
    send(client, 'submit', jobOf([[buffers[use]!]], waits, [handle, value]))
  await submit(1, 0)
  await submit(2, 1, [[handle, 1]])
  await submit(3, 1)
  t.equal(taken.length, 1, 'the second waits, and the third comes after it')
  taken[0]!.fail(accelError('ERR_ACCEL_OUT_OF_RANGE', 'step 0 is too large'))
  await turn()
  t.equal(taken.length, 2, 'the second was not run')
  t.match(await waitFor(client, [[handle, 1]]).catch((error) => error), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    message: 'job 1 of open 1 of accel0 failed: step 0 is too large',
  })
  t.match(await waitFor(client, [[handle, 2]]).catch((error) => error), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    message: /job 2 .* was not run, as it waited for a job that failed/,
  })
  const waiting = (use: number) =>
    codeOf(send(client, 'boWait', { handle: bo(buffers[use]!), deadlineNs: inMs(20_000) }))
  t.equal(await waiting(0), 'ERR_ACCEL_OUT_OF_RANGE', 'what it was to write is not there')
  const third = waiting(1)
  taken[1]!.finish()
  await waitFor(client, [[handle, 3]])
  t.equal(await third, 'accepted', 'the third wrote it')
  t.same(log, ['probe'], 'an answer is no reason to recover')
})

t.test('jobs that share a buffer which one of them writes do not overlap', async (t) => {
  const { open, taken } = await toy(t, { depth: 8 })
  const client = open()
  const [x, y] = [await createBo(client), await createBo(client)]
  await send(client, 'submit', jobOf([[x, 'read']]))
  await send(
    client,
    'submit',
    jobOf([
      [x, 'read'],
      [y, 'write'],
    ]),
  )
  t.equal(taken.length, 2, 'two that read')
  await send(client, 'submit', jobOf([[x, 'write']]))
  await send(client, 'submit', jobOf([[y, 'read']]))
  t.equal(taken.length, 2)
  t.equal(await codeOf(send(client, 'boWait', { handle: y, deadlineNs: inMs(5) })), 'ERR_ACCEL_TIMEOUT')
  t.match(await send(client, 'boInfo', { handle: x }), { sizeBytes: 4096n, jobs: 3 })
  taken[0]!.finish()
  await turn()
  t.equal(taken.length, 2, 'one reader is left')
  taken[1]!.finish()
  await turn()
  t.equal(taken.length, 4)
  taken[2]!.finish()
  await send(client, 'boWait', { handle: x, deadlineNs: inMs(20_000) })
  taken[3]!.finish()
})
