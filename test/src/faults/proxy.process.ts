import { abi, sys } from '@uaccel/sys'

/**
 * Stands between a vfio-user client and its server (arguments: its socket, the server's, how many messages) and passes
 * that many messages on, in both directions together, then hangs up on both. Tells the parent how many there were.
 */
const [path, server, limit] = process.argv.slice(2) as [string, string, string]
const HEADER_BYTES = 16
const POLLIN = 1

const listener = sys.listenUnix(path)
process.send?.('ready')
sys.poll([{ fd: listener, events: POLLIN }], 10_000)
const client = sys.accept(listener)!
const ends = [client, sys.connectUnix(server)] as const
let passed = 0
while (passed < Number(limit)) {
  const ready = sys.poll(
    ends.map((fd) => ({ fd, events: POLLIN })),
    10_000,
  )
  if (ready === undefined || !pass(ready[0] === 0 ? 1 : 0)) break
}
for (const fd of [...ends, listener]) sys.close(fd)
process.send?.(passed, () => process.exit())

/** Passes one message on; false where its sender is gone. */
function pass(from: 0 | 1): boolean {
  const header = Buffer.alloc(HEADER_BYTES)
  const { bytes, fds } = sys.recvmsg(ends[from], header, abi.SCM_MAX_FD)!
  if (bytes === 0) return false
  fill(ends[from], header, bytes)
  const payload = Buffer.alloc(header.readUInt32LE(4) - HEADER_BYTES)
  fill(ends[from], payload, 0)
  const message = Buffer.concat([header, payload])
  try {
    for (let at = 0; at < message.length; ) {
      at += sys.sendmsg(ends[from === 0 ? 1 : 0], [message.subarray(at)], at === 0 ? fds : [])!
    }
  } finally {
    for (const fd of fds) sys.close(fd)
  }
  passed++
  return true
}

function fill(fd: number, buffer: Buffer, from: number): void {
  for (let at = from; at < buffer.length; ) {
    const part = sys.recvmsg(fd, buffer.subarray(at))!
    if (part.bytes === 0) throw new Error('the sender broke off in the middle of a message')
    at += part.bytes
  }
}
