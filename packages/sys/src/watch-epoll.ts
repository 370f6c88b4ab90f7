import { isMainThread, Worker } from 'node:worker_threads'
import * as abi from './abi.js'
import { EventFd } from './eventfd.js'
import type { ProviderName } from './ffi.js'
import type { SystemCalls } from './system-calls.js'
import { systemError } from './system-error.js'
import type { Watch } from './watch.js'

/*
 * The engine for where libuv's poll cannot be had: worker threads, ffi-rs. One helper thread for all watches of
 * a thread sits in epoll_wait and posts the token of what is ready; this thread runs the handler and then arms
 * the descriptor again (EPOLLONESHOT), so that the helper never spins on data that is still unread. Descriptors
 * are added and armed from here: epoll allows that while the helper waits. (A read on libuv's thread pool would
 * take one of its four threads for each descriptor, and keep the process from ending.)
 */

/** What the helper thread is started with. */
export interface HelperData {
  provider: ProviderName
  /** That of epoll, and the one that stops the helper. */
  descriptors: readonly [epfd: number, stopFd: number]
  /** What the stop descriptor is known by. Posted once, too, when the helper is up. */
  stopToken: number
  /** See `WatchHelper.closed`. */
  done: Int32Array
}

/** The token that ends the helper, and with which it says that it is up. Those of watches start behind it. */
const STOP_TOKEN = 0

interface Armed {
  fd: number
  events: number
  handler: () => void
  ref: boolean
}

class EpollLoop {
  readonly #calls: SystemCalls
  readonly #epfd: number
  readonly #stop: EventFd
  readonly #worker: Worker
  readonly #watches = new Map<number, Armed>()
  /** struct epoll_event, packed on x86-64: events u32, data u64. include/uapi/linux/eventpoll.h */
  readonly #event = Buffer.alloc(12)
  readonly #done = new Int32Array(new SharedArrayBuffer(8))
  readonly #started: Promise<void>
  #ended = false
  #lastToken = STOP_TOKEN

  constructor(calls: SystemCalls) {
    this.#calls = calls
    this.#epfd = calls.provider.raw.epollCreate(abi.EPOLL_CLOEXEC)
    if (this.#epfd < 0) throw systemError('epoll_create1', this.#epfd, 'event loop')
    this.#stop = new EventFd(calls)
    this.#control(abi.EPOLL_CTL_ADD, this.#stop.fd, abi.POLLIN, STOP_TOKEN)
    // the helper closes both descriptors when it stops: only it knows that it does not use them any more
    const workerData: HelperData = {
      provider: calls.provider.name,
      descriptors: [this.#epfd, this.#stop.fd],
      stopToken: STOP_TOKEN,
      done: this.#done,
    }
    this.#worker = new Worker(new URL('./watch-epoll-helper.js', import.meta.url), {
      workerData,
      execArgv: [],
      name: 'uaccel-epoll',
    })
    this.#worker.unref()
    this.#started = new Promise((resolve) => {
      this.#worker.once('message', () => resolve())
      this.#worker.once('exit', () => resolve())
    })
    this.#worker.on('message', (token: number) => this.#ready(token))
    helpers.add(this)
    this.#worker.once('exit', () => helpers.delete(this))
  }

  #control(op: number, fd: number, events: number, token: number): void {
    this.#event.writeUInt32LE(events, 0)
    this.#event.writeUInt32LE(token, 4)
    const result = this.#calls.provider.raw.epollCtl(this.#epfd, op, fd, this.#event)
    if (result < 0) throw systemError('epoll_ctl', result, `watch fd ${fd}`)
  }

  #ready(token: number): void {
    const watch = this.#watches.get(token)
    if (watch === undefined) return // the helper is up, or it was closed while the message was on its way
    watch.handler()
    if (this.#watches.has(token) && !this.#ended)
      this.#control(abi.EPOLL_CTL_MOD, watch.fd, watch.events, token)
  }

  #updateRef(): void {
    const wanted = [...this.#watches.values()].some(({ ref }) => ref)
    if (wanted) this.#worker.ref()
    else this.#worker.unref()
  }

  add(fd: number, events: number, handler: () => void): Watch {
    const token = ++this.#lastToken
    const watch: Armed = { fd, events: events | abi.EPOLLONESHOT, handler, ref: true }
    this.#calls.setNonblocking(fd) // as libuv does
    this.#control(abi.EPOLL_CTL_ADD, fd, watch.events, token)
    this.#watches.set(token, watch)
    this.#updateRef()
    const setRef = (ref: boolean) => {
      if (!this.#watches.has(token)) return
      watch.ref = ref
      this.#updateRef()
    }
    return {
      fd,
      helper: { descriptors: [this.#epfd, this.#stop.fd], closed: this.#done },
      started: this.#started,
      ref: () => setRef(true),
      unref: () => setRef(false),
      close: () => {
        if (!this.#watches.delete(token)) return
        if (this.#ended) return
        this.#calls.provider.raw.epollCtl(this.#epfd, abi.EPOLL_CTL_DEL, fd, this.#event)
        this.#updateRef()
        this.stopIfIdle()
      },
    }
  }

  /** Ends the helper with the last watch; the next one starts another. */
  stopIfIdle(): void {
    if (this.#watches.size === 0) this.#end()
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    loops.delete(this.#calls)
    this.#stop.signal()
    // A worker that is terminated right after this would take the helper with it, from between its two closes.
    if (!isMainThread) this.#stopped()
  }

  #stopped(): void {
    Atomics.wait(this.#done, 0, 0, HELPER_STOP_MS)
  }

  /**
   * For when this thread ends, and Node is about to interrupt and join the helper, which waits in the kernel. It
   * has to be out of native code by then (koffi aborts the process when it is interrupted while it loads a
   * library), and to have closed its descriptors, in a process that lives on.
   */
  endWithThread(): void {
    this.#end()
    this.#stopped()
  }
}

/** More than a helper takes to start and stop on a busy machine. */
const HELPER_STOP_MS = 2000

/** Those whose thread runs, or is about to end. */
const helpers = new Set<EpollLoop>()
process.on('exit', () => {
  for (const loop of helpers) loop.endWithThread()
})

const loops = new Map<SystemCalls, EpollLoop>()

/** The engine on a helper thread in epoll_wait: for any thread and either provider. */
export function watchWithEpoll(
  calls: SystemCalls,
  fd: number,
  writable: boolean,
  handler: () => void,
): Watch {
  let loop = loops.get(calls)
  if (loop === undefined) {
    loop = new EpollLoop(calls)
    loops.set(calls, loop)
  }
  try {
    return loop.add(fd, writable ? abi.POLLOUT : abi.POLLIN, handler)
  } catch (error) {
    loop.stopIfIdle()
    throw error
  }
}
