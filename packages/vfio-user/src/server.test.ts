import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createFunction, Faults } from '@uaccel/model'
import { sys } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { Channel, type Message } from './channel.js'
import { Command, encodeVersion, Flag } from './protocol.js'
import { scratchModel } from './scratch.test.device.js'
import { serveVfioUser } from './server.js'

const openFds = () => readdirSync('/proc/self/fd').length

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-server-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A client on the server's own thread, which must not block: it lets the event loop turn until the answer is there. */
async function ask(
  channel: Channel,
  command: number,
  payload: Uint8Array,
  fds: number[] = [],
): Promise<Message> {
  channel.send({ id: 1, command, flags: 0, fds }, payload, 1000)
  for (let turns = 0; turns < 100; turns++) {
    const reply = channel.tryReceive()
    if (reply) return reply
    await delay(5)
  }
  throw new Error(`no answer to command ${command}`)
}

t.test('a device that vanishes ends the session of its client, and leaves nothing behind', async (t) => {
  sys.close(sys.eventfd())
  const path = join(folderOf(t), 'server.sock')
  const faults = new Faults()
  const before = openFds()
  const device = createFunction(scratchModel, {}, { strict: false, faults })
  const events: string[] = []
  const server = serveVfioUser({ path, device, onClient: (event) => events.push(event) })
  const served = openFds()
  const channel = new Channel(sys.connectUnix(path))
  const offer = encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 })
  t.match(await ask(channel, Command.VERSION, offer), { flags: Flag.REPLY })
  const eventfd = sys.eventfd()
  const arm = Buffer.alloc(20)
  for (const [i, word] of [20, 4 | 32, 2, 0, 1].entries()) arm.writeUInt32LE(word, 4 * i)
  t.match(await ask(channel, Command.DEVICE_SET_IRQS, arm, [eventfd]), { flags: Flag.REPLY })
  sys.close(eventfd)
  faults.vanish()
  await delay(50)
  t.throws(() => channel.tryReceive(), { code: 'ERR_ACCEL_CLOSED' })
  channel.close()
  t.same(events, ['connected', 'left'])
  t.equal(openFds(), served)
  server.close()
  await delay(20)
  t.equal(openFds(), before)
})

t.test('a server removes its own socket and no other', async (t) => {
  const path = join(folderOf(t), 'server.sock')
  const serve = () => serveVfioUser({ path, device: createFunction(scratchModel, {}) })
  const first = serve()
  t.throws(serve, { code: 'ERR_ACCEL_BUSY' })
  t.ok(existsSync(path))
  renameSync(path, `${path}.old`)
  const second = serve()
  first.close()
  t.ok(existsSync(path), "the second one's")
  second.close()
  t.notOk(existsSync(path))
})

t.test('a socket in a folder that is not there', async (t) => {
  const device = createFunction(scratchModel, {})
  t.teardown(() => device.close())
  t.throws(() => serveVfioUser({ path: join(folderOf(t), 'absent', 'x.sock'), device }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /no folder .*absent/,
  })
})
