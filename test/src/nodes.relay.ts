import { join } from 'node:path'
import { abi, closeAll, sys, watch } from '@uaccel/sys'

/*
 * Stands between clients and a server, in a process of its own, and passes on what they say, descriptors included: argv[2] is the folder
 * of the server's nodes, argv[3] the folder of its own, argv[4] their names. Told `{ needles }`, it looks for these bytes in all that passes;
 * told anything, it answers what passed so far, by node.
 */

const [from, to, names] = process.argv.slice(2) as [string, string, string]

interface Passed {
  bytes: number
  descriptors: number
  /** How often a needle passed. */
  found: number
}

const passed: Record<string, Passed> = {}
let needles: Buffer[] = []

/** Passes on one direction of a connection; looks for needles also where two reads share one. */
function pass(source: number, target: number, count: Passed, ended: () => void): void {
  const buffer = Buffer.alloc(1 << 16)
  let tail = Buffer.alloc(0)
  const reading = watch(source, () => {
    let received: ReturnType<typeof sys.recvmsg>
    try {
      received = sys.recvmsg(source, buffer, abi.SCM_MAX_FD)
    } catch {
      received = { bytes: 0, fds: [], truncated: false }
    }
    if (received === undefined) return
    const { bytes, fds } = received
    if (bytes === 0) {
      reading.close()
      ended()
      return
    }
    count.bytes += bytes
    count.descriptors += fds.length
    const seen = Buffer.concat([tail, buffer.subarray(0, bytes)])
    for (const needle of needles) if (seen.includes(needle)) count.found++
    const longest = Math.max(0, ...needles.map(({ length }) => length - 1))
    tail = Buffer.from(seen.subarray(Math.max(0, seen.length - longest)))
    try {
      for (let sent = 0; sent < bytes; ) {
        const took = sys.sendmsg(target, [buffer.subarray(sent, bytes)], sent === 0 ? fds : [])
        if (took === undefined) sys.poll([{ fd: target, events: abi.POLLOUT }], 10_000)
        else sent += took
      }
    } catch {
      // Who left is noticed where it is read.
    }
    closeAll(fds)
  })
}

for (const name of names.split(',')) {
  const count: Passed = { bytes: 0, descriptors: 0, found: 0 }
  passed[name] = count
  const listening = sys.listenUnix(join(to, name))
  watch(listening, () => {
    const client = sys.accept(listening, abi.SOCK_NONBLOCK)
    if (client === undefined) return
    const server = sys.connectUnix(join(from, name))
    let left = 2
    const ended = (other: number) => () => {
      try {
        sys.shutdown(other, abi.SHUT_WR)
      } catch {
        // It is gone itself.
      }
      if (--left === 0) closeAll([client, server])
    }
    pass(client, server, count, ended(server))
    pass(server, client, count, ended(client))
  })
}

process.on('message', (word: { needles?: string[] }) => {
  if (word.needles) needles = word.needles.map((text) => Buffer.from(text, 'base64'))
  process.send?.(passed)
})
process.once('disconnect', () => process.exit())
process.send?.({ uid: process.getuid?.() })
