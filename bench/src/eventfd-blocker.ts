// A worker thread that blocks for an eventfd: what c/eventfd-epoll.c does, without an event loop.
import { parentPort, workerData } from 'node:worker_threads'
import { EventFd, Mapping, sys } from '@uaccel/sys'

const PATIENCE_MS = 5000
const { fd, page } = workerData as { readonly fd: number; readonly page: number }
const event = new EventFd(sys, fd)
const { window } = Mapping.map({ fd: page, offset: 0, sizeBytes: 4096 })
let handled = 0

/** How long ago each of so many events was signalled, in nanoseconds. */
function block(operations: number): Float64Array {
  const latencies = new Float64Array(operations)
  for (let i = 0; i < operations; i++) {
    if (event.waitSync(PATIENCE_MS) === 0) throw new Error('no event came')
    latencies[i] = Number(process.hrtime.bigint() - window.u64[0])
    window.u32[4] = ++handled
  }
  return latencies
}

parentPort!.on('message', (operations: number) => parentPort!.postMessage(block(operations)))
