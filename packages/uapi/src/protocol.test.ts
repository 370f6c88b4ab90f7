import fc from 'fast-check'
import t from 'tap'
import {
  accelError,
  cmd,
  decodeError,
  encodeError,
  errorTable,
  fd,
  fitText,
  nodeFolders,
  nodeProtocol,
  requireSameUapi,
  spoken,
  TAKEN,
  u32,
  uapi,
} from './index.js'

t.setTimeout(200_000)

t.test('errors cross with code, errno, system call, message and details', async (t) => {
  for (const [code, { number, errno }] of Object.entries(errorTable)) {
    const error = accelError(code as keyof typeof errorTable, `about ${code}`)
    const { number: sent, payload } = encodeError(error)
    t.equal(sent, number)
    const { errno: text } = nodeProtocol.commands.error.out.decode(payload)
    t.equal(text, errno, 'for clients without the table')
    t.match(decodeError(sent, payload), {
      code,
      message: `about ${code}`,
      errno: undefined,
      details: undefined,
    })
  }
  const whole = accelError('ERR_ACCEL_SYSTEM', 'open failed', {
    errno: 'EMFILE',
    syscall: 'open',
    details: { fd: 7, address: 1n << 40n, inner: { a: [1] } },
  })
  const { number, payload } = encodeError(whole)
  const back = decodeError(number, payload)
  t.match(back, { code: 'ERR_ACCEL_SYSTEM', errno: 'EMFILE', syscall: 'open', message: 'open failed' })
  t.same(back.details, { fd: 7, address: '1099511627776', inner: { a: [1] } })
})

t.test('what does not fit is cut, what is odd does no harm', async (t) => {
  const circle: Record<string, unknown> = {}
  circle.self = circle
  for (const details of [circle, { long: 'x'.repeat(2000) }]) {
    const { number, payload } = encodeError(accelError('ERR_ACCEL_IO', 'm', { details }))
    t.equal(decodeError(number, payload).details, undefined)
  }
  const bug = encodeError(new TypeError('a bug'))
  t.match(decodeError(bug.number, bug.payload), { code: 'ERR_ACCEL_IO', message: 'a bug' })
  t.match(decodeError(encodeError('text').number, encodeError('text').payload), { message: 'text' })
  t.match(decodeError(60_000, encodeError('text').payload), {
    code: 'ERR_ACCEL_IO',
    details: { number: 60_000 },
  })
  for (const details of ['[1]', '{', 'null', '7']) {
    const payload = nodeProtocol.commands.error.out.encode({
      errno: 'EIO',
      syscall: '',
      message: 'm',
      details,
    })
    t.equal(decodeError(15, payload).details, undefined)
  }
  t.throws(() => decodeError(15, new Uint8Array(3)), { code: 'ERR_ACCEL_BAD_SIZE' })
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.nat(50), (text, max) => {
      const cut = fitText(text, max)
      if (Buffer.byteLength(cut) > max || !Buffer.from(text).toString().startsWith(cut)) throw new Error(cut)
      if (Buffer.byteLength(text) <= max && cut !== Buffer.from(text).toString())
        throw new Error('cut for nothing')
    }),
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (message, errno) => {
      const { number, payload } = encodeError(accelError('ERR_ACCEL_BUSY', message, { errno }))
      if (decodeError(number, payload).code !== 'ERR_ACCEL_BUSY') throw new Error('another code')
    }),
  )
})

t.test('which uAPIs go together', async (t) => {
  const make = (name: string, version: number, field = u32) =>
    spoken(uapi({ name, version, commands: { go: cmd(0x40, { in: { n: field } }) } }))
  const served = make('one', 2)
  const refused = { code: 'ERR_ACCEL_VERSION' }
  for (const wanted of [make('one', 2), make('one', 1), make('one', 3), { ...served, uapi: 'common' }]) {
    t.doesNotThrow(() => requireSameUapi('accel0', served, wanted))
  }
  t.doesNotThrow(() => requireSameUapi('accel0', served, { ...served, digest: new Uint8Array(0) }))
  t.throws(() => requireSameUapi('accel0', served, make('two', 2)), refused)
  const changed = spoken(uapi({ name: 'one', version: 2, commands: { went: cmd(0x40, { in: { n: u32 } }) } }))
  t.throws(() => requireSameUapi('accel0', served, changed), refused)
})

t.test('a descriptor has one place', async (t) => {
  const { pass } = uapi({
    name: 'passes',
    version: 1,
    commands: { pass: cmd(0x40, { in: { a: fd, b: fd } }) },
  }).commands
  const fds: number[] = []
  const bytes = pass.in.encode({ a: 30, b: 40 }, fds)
  t.same(fds, [30, 40])
  const given = [30, 40, 50]
  t.same(pass.in.decode(bytes, given), { a: 30, b: 40 })
  t.same(given, [TAKEN, TAKEN, 50], 'the rest is left to the caller')
  t.throws(() => pass.in.decode(Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0), [30]), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  t.throws(() => pass.in.decode(bytes, [30]), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
})

t.test('where nodes are', async (t) => {
  const own = process.env.XDG_RUNTIME_DIR
  process.env.XDG_RUNTIME_DIR = '/run/user/7'
  t.same(nodeFolders(), ['/run/user/7/uaccel', '/run/uaccel'])
  delete process.env.XDG_RUNTIME_DIR
  t.same(nodeFolders(), ['/run/uaccel'])
  if (own !== undefined) process.env.XDG_RUNTIME_DIR = own
})
