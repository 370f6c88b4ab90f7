import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type TraceEvent, TraceFile, TraceRing, TraceStory } from '@uaccel/trace'
import { accelError, cmd, commonUapi, isAccelError, u32, uapi } from '@uaccel/uapi'
import t from 'tap'
import { accelDriver } from './driver.js'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel } from './subsystem.js'

const thing = uapi({
  name: 'thing',
  version: 1,
  commands: { twice: cmd(0x40, { in: { n: u32 }, out: { n: u32 } }), fail: cmd(0x41, {}) },
})

/** A driver that touches its device at each command. */
const driver = accelDriver({
  name: 'thing',
  uapi: thing,
  ids: [{ bus: 'pci', vendor: 0x1234, device: 0x5678 }],
  async probe(dev) {
    dev.config.read16(2)
    return {
      commands: {
        twice({ n }) {
          dev.config.read16(0)
          return { n: 2 * n }
        },
        fail() {
          throw accelError('ERR_ACCEL_IO', 'it broke')
        },
      },
    }
  },
})

function told(file: TraceFile): string[] {
  const events: TraceEvent[] = []
  for (let more = file.read().events; more.length > 0; more = file.read().events) events.push(...more)
  const story = new TraceStory(file.names)
  return events.map((event) => story.tell(event).text.replace(/ \([^)]*\)| waited .*/, ''))
}

const joined = async (client: { common(name: 'trace', input: object): Promise<unknown> }) => {
  const { fd, path } = (await client.common('trace', { flags: {} })) as { fd: number; path: string }
  return { file: new TraceFile(fd, path), path }
}

t.test('a node is traced as long as an open that wants it', async (t) => {
  const folder = t.testdir()
  await using accel = new Accel({ traceFolder: join(folder, 'nodes') })
  accel.register(driver)
  const transport = new FakeTransport()
  await accel.add(transport)
  const ring = join(folder, 'nodes', 'accel0.trace')
  const user = accel.open(thing, 'accel0')
  await user.call('twice', { n: 1 })
  t.notOk(existsSync(ring))

  const [first, second] = [accel.open(thing, 'accel0'), accel.open(thing, 'accel0')]
  const { file, path } = await joined(first)
  t.equal(path, ring)
  t.equal(statSync(ring).mode & 0o777, 0o600)
  await user.call('twice', { n: 1 })
  await t.rejects(user.call('fail', {}), { code: 'ERR_ACCEL_IO' })
  const words = told(file)
  t.match(words, [
    'twice of open 1 begins,',
    /^config 0x0 -> 0x/,
    'twice of open 1 ends',
    'fail of open 1 begins,',
    'fail of open 1 fails: ERR_ACCEL_IO',
  ])
  t.equal(file.names.driver, 'thing')

  const { file: another } = await joined(second)
  t.same(told(another), words, 'who comes later sees what was before')
  another.close()
  await joined(second).then(({ file }) => file.close())
  await first.close()
  await user.call('twice', { n: 1 })
  t.equal(told(file).length, 3)
  await second.close()
  t.notOk(existsSync(ring))
  await user.call('twice', { n: 1 })
  t.same(told(file), [], 'nobody is told any more')
  file.close()

  const again = accel.open(thing, 'accel0')
  const { file: anew } = await joined(again)
  await again.call('twice', { n: 1 })
  t.equal(told(anew).length, 3)
  anew.close()
})

t.test('only its owner may trace a node', async (t) => {
  const folder = t.testdir()
  await using accel = new Accel({ traceFolder: folder })
  accel.register(driver)
  await accel.add(new FakeTransport())
  const other = accel.open(thing, 'accel0', { rights: { as: 'group' } })
  await t.rejects(other.common('trace', { flags: {} }), { code: 'ERR_ACCEL_PERMISSION' })
  t.notOk(existsSync(join(folder, 'accel0.trace')))
  t.ok(commonUapi.commands.trace.concurrent)
})

t.test('from the first access into a file, which stays', async (t) => {
  const folder = t.testdir({ other: 'not a trace' })
  const path = join(folder, 'a.uatrace')
  const accel = new Accel({ traceFolder: folder })
  accel.register(driver)
  await accel.add(new FakeTransport(), { traceFile: path })
  const client = accel.open(thing, 'accel0')
  const { file, path: ring } = await joined(client)
  t.equal(ring, path)
  file.close()
  await client.call('twice', { n: 1 })
  await client.close()
  await accel.close()
  using left = TraceFile.open(path)
  const words = told(left)
  t.ok(
    words.some((line) => line.startsWith('config 0x2 ->')),
    'its probe is there',
  )
  t.ok(words.includes('twice of open 1 ends'), 'and goes on when nobody looks')

  const transport = new FakeTransport()
  try {
    await accel.add(transport, { traceFile: join(folder, 'other') })
    t.fail('something else was overwritten')
  } catch (error) {
    t.ok(isAccelError(error, 'ERR_ACCEL_BUSY'))
  }
  t.same(accel.nodes, [], 'nothing is left half done')
})

t.test('UACCEL_TRACE names the file of accel0, and of others with their name behind it', async (t) => {
  const path = join(t.testdir(), 'a.uatrace')
  process.env.UACCEL_TRACE = path
  t.teardown(() => delete process.env.UACCEL_TRACE)
  await using accel = new Accel()
  accel.register(driver)
  await accel.add(new FakeTransport())
  await accel.add(new FakeTransport())
  t.ok(existsSync(path))
  t.ok(existsSync(`${path}.accel1`))
})

t.test('a device that its driver follows itself is not traced, and nothing of that stays', async (t) => {
  const folder = t.testdir()
  await using accel = new Accel({ traceFolder: folder })
  const ring = TraceRing.create(join(folder, 'own'))
  let stop = () => {}
  accel.register(
    accelDriver({
      name: 'thing',
      uapi: thing,
      ids: [{ bus: 'pci', vendor: 0x1234, device: 0x5678 }],
      probe(dev) {
        stop = dev.follow(ring)
        return { commands: { twice: ({ n }) => ({ n: dev.config.read16(0) && 2 * n }), fail: () => ({}) } }
      },
    }),
  )
  await accel.add(new FakeTransport())
  const client = accel.open(thing, 'accel0')
  for (let i = 0; i < 2; i++) {
    await t.rejects(joined(client), { code: 'ERR_ACCEL_BUSY' })
    t.notOk(existsSync(join(folder, 'accel0.trace')))
  }
  stop()
  const { file } = await joined(client)
  await client.call('twice', { n: 1 })
  t.match(told(file)[1], /^config 0x0 -> 0x/)
  file.close()
  ring.close()
})
