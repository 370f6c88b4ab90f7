import { readFileSync } from 'node:fs'
import { sys, watch } from '@uaccel/sys'
import { Channel, type Message } from './channel.js'
import { Flag } from './protocol.js'

/** What a scripted server answers to a command whose payload starts with `key` (hex). */
export interface ScriptedReply {
  command: number
  /** Start of the payload, in hex; '' for any. The first entry that fits is taken. */
  key: string
  /**
   * Payload of the reply, in hex. `null` for no reply at all, `'close'` to hang up, `'echo'` for the request's fixed part (a
   * write that is taken), `'zeros'` for that and as many zeros as it asks for.
   */
  reply: string | null
  errno?: number
  /** Overrides for a reply that is wrong. */
  header?: { id?: number; command?: number; flags?: number }
  /** Sizes of memfds to send along; a negative size is a sealed one. */
  memfds?: number[]
  /** Sent as they are, before the reply: messages of the server, in hex. */
  before?: string[]
  /** They are sent again and again, until the client hangs up. */
  endless?: boolean
}

/** Answers one client after another from a script: argv is the socket and the script, as JSON or as @FILE. Tells each message it got. */
const [path, given] = process.argv.slice(2) as [string, string]
const script = JSON.parse(
  given.startsWith('@') ? readFileSync(given.slice(1), 'utf8') : given,
) as ScriptedReply[]
const listener = sys.listenUnix(path)
watch(listener, () => {
  for (let fd = sys.accept(listener); fd !== undefined; fd = sys.accept(listener)) serve(new Channel(fd))
})
process.on('disconnect', () => process.exit())
process.send?.('ready')

function serve(channel: Channel): void {
  const watching = watch(channel.fd, () => {
    try {
      for (let message = channel.tryReceive(); message; message = channel.tryReceive())
        answer(channel, message)
    } catch {
      watching.close()
      channel.close()
    }
  })
}

function answer(channel: Channel, message: Message): void {
  const hex = message.payload.toString('hex')
  process.send?.({
    command: message.command,
    flags: message.flags,
    errno: message.errno,
    payload: hex,
    fds: message.fds.length,
  })
  for (const fd of message.fds) sys.close(fd)
  if (message.flags & Flag.REPLY) return
  const found = script.find(({ command, key }) => command === message.command && hex.startsWith(key))
  for (const bytes of found?.before ?? []) sys.sendmsg(channel.fd, [Buffer.from(bytes, 'hex')])
  while (found?.endless) {
    for (const bytes of found.before ?? []) sys.sendmsg(channel.fd, [Buffer.from(bytes, 'hex')])
    while (channel.tryReceive()) {}
  }
  if (found?.reply === 'close') throw new Error('hang up')
  if (found?.reply === null) return
  const errno = found === undefined ? 22 : (found.errno ?? 0)
  const fds = (found?.memfds ?? []).map((size) => {
    const fd = sys.memfdCreate('scripted')
    sys.ftruncate(fd, Math.abs(size))
    if (size < 0) sys.addSeals(fd, 6)
    return fd
  })
  const { id, command } = message
  channel.send(
    { id, command, flags: errno === 0 ? Flag.REPLY : Flag.REPLY | Flag.ERROR, errno, fds, ...found?.header },
    errno === 0 ? replyTo(message, found!.reply!) : Buffer.alloc(0),
    1000,
  )
  for (const fd of fds) sys.close(fd)
}

function replyTo({ payload }: Message, reply: string): Buffer {
  if (reply !== 'echo' && reply !== 'zeros') return Buffer.from(reply, 'hex')
  const zeros = Buffer.alloc(reply === 'zeros' ? payload.readUInt32LE(12) : 0)
  return Buffer.concat([payload.subarray(0, 16), zeros])
}
