import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openDevice, reg8, reg32, registers } from '@uaccel/core'
import { DmaBuffer } from '@uaccel/memory'
import { loopback, type ModelDefinition } from '@uaccel/model'
import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { adder, type Use, useAdder } from './device.test.support.js'
import { readSession, recording, replaying } from './index.js'
import { decodeSession } from './session.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let files = 0
const newFile = () => join(folder, `${files++}.rec`)

const answers = [8, 8, 8, 8, 0, 0, 0, 0, 1, 9, 9, 9, 9, 0, 0, 0, 0, 2]

async function record(use: Use = {}, options = {}): Promise<string> {
  const file = newFile()
  t.same(await useAdder(recording(loopback(adder), file, options), use), answers)
  return file
}

t.test('a driver finds the device as it was, by interrupts, registers and memory', async (t) => {
  const file = await record()
  for (const strict of [false, true]) {
    const device = replaying(file, { strict })
    t.same(await useAdder(device), answers)
    device.assertComplete()
    t.same(device.notes, [])
  }
})

t.test('memory at another address is the same memory', async (t) => {
  const file = await record()
  const { mappings } = readSession(file)
  t.equal(mappings.length, 1)
  const device = replaying(file)
  // What the driver maps next gets an address behind it.
  const taken = DmaBuffer.create(mappings[0]!.sizeBytes)
  t.teardown(() => taken.destroy())
  const { map } = device.dma
  let moved: bigint | undefined
  Object.defineProperty(device.dma, 'ranges', {
    value: () => [{ first: mappings[0]!.iova + 0x4000_0000n, last: (1n << 39n) - 1n }],
  })
  Object.defineProperty(device.dma, 'map', {
    value(request: Parameters<typeof map>[0]) {
      moved = request.iova
      map.call(device.dma, request)
    },
  })
  t.same(await useAdder(device), answers, 'a register that holds an address answers the present one')
  t.not(moved, mappings[0]!.iova)
  device.assertComplete()
})

t.test('what the driver put into memory is held against the recording', async (t) => {
  const device = replaying(await record())
  await t.rejects(useAdder(device, { byte: 6 }))
  t.match(device.mismatch, {
    code: 'ERR_ACCEL_BAD_ACCESS',
    message: /expected driver put 07 07 .* at offset 0x0 of DMA mapping 0, .*; came 06 06 .* there$/,
  })
})

t.test('a reset, a failure and a wrong mapping', async (t) => {
  const resets = async (use: Parameters<NonNullable<Use['end']>>[0]) => {
    await use.reset()
    try {
      use.exportBar(0)
      t.fail('it has none')
    } catch (error) {
      t.ok(isAccelError(error))
    }
  }
  const file = await record({ end: resets })
  const device = replaying(file)
  t.same(await useAdder(device, { end: resets }), answers)
  device.assertComplete()

  const short = replaying(file)
  t.same(await useAdder(short), answers)
  t.throws(() => short.assertComplete(), { code: 'ERR_ACCEL_BAD_ACCESS', message: /a function reset/ })

  const more = replaying(file)
  await t.rejects(useAdder(more, { before: 4096, end: (it) => void it.dma.alloc(8 << 20) }))
  t.match(more.mismatch?.message, /expected nothing more; came DMA mapping 1 of 8388608 bytes, readwrite/)
})

t.test('an access that failed fails again', async (t) => {
  const file = newFile()
  const strict = recording(loopback(adder), file)
  const refused = { code: 'ERR_ACCEL_BAD_ACCESS', message: /read of 4 bytes at BAR0\+0x20/ }
  strict.write(7, 4, 2, 2)
  t.throws(() => strict.read(0, 0x20, 4), refused)
  await strict.close()
  const device = replaying(file)
  device.write(7, 4, 2, 2)
  t.throws(() => device.read(0, 0x20, 4), refused)
  device.assertComplete()
})

t.test('reads come more often, later and sooner, but of a register that they clear', async (t) => {
  const file = newFile()
  const device = recording(loopback(adder), file)
  device.write(7, 4, 2, 2)
  t.equal(device.read(0, 0x10, 4), 0)
  device.write64(0, 0, 1n)
  t.equal(device.read(0, 0x14, 4), 0)
  await device.close()

  const lawful = replaying(file)
  lawful.write(7, 4, 2, 2)
  t.equal(lawful.read(0, 0x14, 4), 0, 'sooner')
  lawful.write64(0, 0, 1n)
  t.equal(lawful.read(0, 0x10, 4), 0, 'later')
  t.equal(lawful.read(0, 0x10, 4), 0, 'once more')
  t.throws(() => lawful.assertComplete(), {
    message: /1 steps .* were not replayed:.*\n.* read of BAR 0 \+ 0x14/s,
  })
  t.equal(lawful.read(0, 0x14, 4), 0)
  lawful.assertComplete()
  t.match(lawful.notes, [
    /^read of BAR 0 \+ 0x14 \(32 bits\), sooner than recorded: it got what came later, at step \d+/,
  ])

  for (const [strict, access, expected] of [
    [false, 'rc', 'write of BAR 0 + 0x0 (64 bits) = 0x1'],
    [true, 'ro', 'read of BAR 0 + 0x10 (32 bits)'],
  ] as const) {
    const refuses = replaying(file, { strict, registers: { 0: registers({ COUNT: reg32(0x14, access) }) } })
    refuses.write(7, 4, 2, 2)
    t.throws(() => refuses.read(0, 0x14, 4), {
      code: 'ERR_ACCEL_NO_DEVICE',
      cause: { code: 'ERR_ACCEL_BAD_ACCESS', details: { expected, came: 'read of COUNT (BAR 0 + 0x14)' } },
    })
  }
})

t.test('a loss comes where it came', async (t) => {
  const file = newFile()
  const lost = loopback(adder)
  const end = async () => {
    lost.vanish('pulled out')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  await useAdder(recording(lost, file), { end })
  const device = replaying(file)
  let reason: unknown
  device.onLost((error) => {
    reason = error
  })
  const wait = () => new Promise<void>((resolve) => setTimeout(resolve, 10))
  t.same(await useAdder(device, { end: wait }), answers)
  t.match(reason, { code: 'ERR_ACCEL_NO_DEVICE', message: /pulled out/ })
})

t.test('a process that is killed leaves all that was before', async (t) => {
  const file = newFile()
  const child = fork(fileURLToPath(new URL('./killed.test.process.js', import.meta.url)), [file])
  await once(child, 'message')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const session = readSession(file)
  t.equal(session.end, 'cut')
  t.ok(session.steps.length > 20)
  const device = replaying(file)
  t.same(await useAdder(device), answers)
})

t.test('a recording ends at its limit, and its session goes on', async (t) => {
  const stops: Error[] = []
  const file = newFile()
  const maxFileBytes = statSync(await record()).size - 500
  const options = { maxFileBytes, onStop: (error: Error) => stops.push(error) }
  t.same(await useAdder(recording(loopback(adder), file, options)), answers)
  t.match(stops, [{ code: 'ERR_ACCEL_OUT_OF_RANGE', message: /ended at its limit of \d+ bytes/ }])
  t.ok(statSync(file).size <= maxFileBytes)
  t.equal(readSession(file).end, 'limit')
})

t.test('a file that is there is kept', async (t) => {
  const file = newFile()
  writeFileSync(file, 'kept')
  t.throws(() => recording(loopback(adder), file), { code: 'ERR_ACCEL_BUSY' })
  t.throws(() => replaying(file), { code: 'ERR_ACCEL_PROTOCOL', message: /does not begin as one/ })
  t.throws(() => replaying(`${file}.not`), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.throws(() => recording(loopback(adder), join(folder, 'no', 'folder')), { code: 'ERR_ACCEL_SYSTEM' })
  t.equal(readFileSync(file, 'utf8'), 'kept')
})

t.test('a file that was cut or damaged is read up to there, or refused', async (t) => {
  const whole = readFileSync(await record())
  const { steps } = decodeSession(whole, 'whole')
  const later = Buffer.from(whole)
  later.writeUInt32LE(2, 8)
  t.throws(() => decodeSession(later, 'later'), { code: 'ERR_ACCEL_VERSION' })

  const read = (bytes: Buffer) => {
    try {
      return decodeSession(bytes, 'damaged')
    } catch (error) {
      if (!isAccelError(error)) throw error
      t.ok(['ERR_ACCEL_PROTOCOL', 'ERR_ACCEL_VERSION'].includes(error.code), error.message)
      return undefined
    }
  }
  for (let size = 0; size < whole.length; size += 13) {
    const cut = read(whole.subarray(0, size))
    if (cut === undefined) continue
    t.equal(cut.end, 'cut')
    t.same(
      cut.steps.map(({ kind }) => kind),
      steps.slice(0, cut.steps.length).map(({ kind }) => kind),
    )
  }
  const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 300)
  const byte = fc.tuple(fc.nat(whole.length - 1), fc.nat(255))
  await fc.assert(
    fc.asyncProperty(fc.array(byte, { minLength: 1, maxLength: 8 }), async (changes) => {
      const bytes = Buffer.from(whole)
      for (const [at, value] of changes) bytes[at] = value
      if (read(bytes) === undefined) return
      const file = join(folder, 'damaged.rec')
      writeFileSync(file, bytes)
      const device = replaying(file)
      // It passes, or ends with an error of the table; a device that does not answer as it should is the driver's to notice.
      const ended = useAdder(device).catch((error: unknown) => {
        if (!isAccelError(error) && !/^(it is not done|another address)$/.test((error as Error).message))
          throw error
      })
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 50))])
      await device.close()
    }),
    { numRuns: Math.ceil(runs / 3) },
  )
})

t.test('a register map that is too large for a recording leaves one without its names', async (t) => {
  const large = registers(
    Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`REGISTER_${i}`, reg32(4 * i, 'rw')])),
  )
  const file = await record({}, { registers: { 1: large } })
  t.same([...readSession(file).registers.keys()], [0])
})

t.test('a model that answers more than was asked for is recorded with what was', async (t) => {
  const model: ModelDefinition = {
    ...adder,
    create: () => ({ read: () => 0x1_2345, write: () => true, reset() {} }),
  }
  const file = newFile()
  for (const transport of [recording(loopback(model), file), () => replaying(file)]) {
    const device = openDevice(typeof transport === 'function' ? transport() : transport)
    await device.enable()
    const bar = await device.mapBar(0, registers({ BYTE: reg8(0, 'ro') }))
    t.equal(bar.BYTE.read() & 0xff, 0x45)
    await device.release()
    if (typeof transport !== 'function') await transport.close()
  }
})
