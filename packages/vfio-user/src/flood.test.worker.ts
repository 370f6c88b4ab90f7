import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { abi, sys } from '@uaccel/sys'
import { Channel } from './channel.js'
import { Command, encodeVersion, Flag } from './protocol.js'

/** A client that sends commands without a reply, as fast as the server takes them, until its parent says stop. */
const channel = new Channel(sys.connectUnix(workerData as string))
const offer = encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 })
channel.send({ id: 0, command: Command.VERSION, flags: 0 }, offer, 5000)
channel.receive(5000)

const one = Buffer.alloc(16)
one.writeUInt16LE(Command.DEVICE_GET_INFO, 2)
one.writeUInt32LE(16, 4)
one.writeUInt32LE(Flag.NO_REPLY, 8)
const many = Buffer.concat(new Array<Buffer>(2000).fill(one))
let at = 0
let told = false
while (receiveMessageOnPort(parentPort!) === undefined) {
  const sent = sys.sendmsg(channel.fd, [many.subarray(at)])
  if (sent === undefined) sys.poll([{ fd: channel.fd, events: abi.POLLOUT }], 100)
  else at = (at + sent) % many.length
  if (!told && sent === undefined) {
    told = true
    parentPort!.postMessage('full')
  }
}
channel.close()
parentPort!.close()
