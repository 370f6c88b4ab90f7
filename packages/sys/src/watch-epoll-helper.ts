import { parentPort, workerData } from 'node:worker_threads'
import type { FfiProvider, ProviderName } from './ffi.js'
import { EINTR } from './raw-calls.js'
import type { HelperData } from './watch-epoll.js'

/*
 * The body of the helper thread: see `watch-epoll.ts`. Nothing is heard of a descriptor until it is up, so it loads what it
 * needs and no more.
 */

/** A thread that is terminated rather than stopped gets away at the end of a wait. */
const WAIT_MS = 500
const MAX_EVENTS = 64
const EVENT_BYTES = 12

/** Whether closing that descriptor falls to this thread: whoever closes the others' may find it terminated midway. */
const claim = (done: Int32Array, i: number) => (Atomics.or(done, 1, 1 << i) & (1 << i)) === 0

const loaders: Record<ProviderName, () => Promise<FfiProvider>> = {
  koffi: async () => (await import('./ffi-koffi.js')).koffiProvider(),
  'ffi-rs': async () => (await import('./ffi-ffirs.js')).ffiRsProvider(),
}

async function run(
  { provider, descriptors, stopToken, done }: HelperData,
  post: (token: number) => void,
): Promise<void> {
  const { raw } = await loaders[provider]()
  const [epfd] = descriptors
  const events = Buffer.alloc(MAX_EVENTS * EVENT_BYTES)
  post(stopToken)
  for (;;) {
    const count = raw.epollWait(epfd, events, MAX_EVENTS, WAIT_MS)
    if (count < 0 && count !== EINTR) {
      const { systemError } = await import('./system-error.js')
      throw systemError('epoll_wait', count, 'event loop')
    }
    for (let i = 0; i < count; i++) {
      const token = events.readUInt32LE(i * EVENT_BYTES + 4)
      if (token === stopToken) {
        for (const [i, fd] of descriptors.entries()) if (claim(done, i)) raw.close(fd)
        Atomics.store(done, 0, 1)
        Atomics.notify(done, 0)
        return
      }
      post(token)
    }
  }
}

const port = parentPort
if (port) await run(workerData as HelperData, (token) => port.postMessage(token))
