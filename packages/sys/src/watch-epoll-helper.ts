import { parentPort, workerData } from 'node:worker_threads'
import { EINTR } from './ffi.js'
import { systemCalls } from './system-calls.js'
import { systemError } from './system-error.js'
import { type HelperData, STOP_TOKEN } from './watch-epoll.js'

/** A thread that is terminated rather than stopped gets away at the end of a wait. */
const WAIT_MS = 500
const MAX_EVENTS = 64
const EVENT_BYTES = 12

/** The body of the helper thread: see `watch-epoll.ts`. */
function run({ provider, epfd, stopFd, done }: HelperData, post: (token: number) => void): void {
  const { raw } = systemCalls(provider).provider
  const events = Buffer.alloc(MAX_EVENTS * EVENT_BYTES)
  post(STOP_TOKEN)
  for (;;) {
    const count = raw.epollWait(epfd, events, MAX_EVENTS, WAIT_MS)
    if (count < 0 && count !== EINTR) throw systemError('epoll_wait', count, 'event loop')
    for (let i = 0; i < count; i++) {
      const token = events.readUInt32LE(i * EVENT_BYTES + 4)
      if (token === STOP_TOKEN) {
        raw.close(stopFd)
        raw.close(epfd)
        Atomics.store(done, 0, 1)
        Atomics.notify(done, 0)
        return
      }
      post(token)
    }
  }
}

const port = parentPort
if (port) run(workerData as HelperData, (token) => port.postMessage(token))
