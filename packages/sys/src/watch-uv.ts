import { isMainThread } from 'node:worker_threads'
import { accelError } from '@uaccel/uapi'
import { loadKoffi } from './ffi-koffi.js'
import type { SystemCalls } from './system-calls.js'
import { systemError } from './system-error.js'
import type { Watch } from './watch.js'

/** uv_handle_type and uv_poll_event. libuv include/uv.h */
const UV_POLL = 8
const UV_READABLE = 1
const UV_WRITABLE = 2

interface Libuv {
  init(handle: bigint, fd: number): number
  start(handle: bigint, events: number, callback: bigint): number
  stop(handle: bigint): number
  close(handle: bigint, callback: bigint): void
  ref(handle: bigint): void
  unref(handle: bigint): void
  /** A zeroed uv_poll_t, outside the JavaScript heap because libuv links it into lists. */
  allocate(): bigint
  free(handle: bigint): void
  register(callback: (handleLow: number, status: number) => void): bigint
  unregister(callback: bigint): void
  /** The one uv_close_cb; whoever closes a handle says here what to do once libuv let go of it. */
  readonly closed: bigint
  readonly onClosed: Map<bigint, () => void>
  /** Every handle that may call back, to be silenced at exit. */
  readonly started: Set<bigint>
}

let libuv: Libuv | 'absent' | undefined

/*
 * libuv is looked up in the running program alone: an official Node exports it, and a distribution's Node has
 * libuv.so.1 linked, which the same look-up finds. A copy that was loaded only now would run another loop.
 */
function load(): Libuv {
  const koffi = loadKoffi()
  const program = koffi.load(null)
  const libc = koffi.load('libc.so.6')
  const calloc = libc.func('uintptr_t calloc(size_t count, size_t size)')
  const loop = program.func('uintptr_t uv_default_loop()')()
  const handleBytes = program.func('size_t uv_handle_size(int type)')(UV_POLL)
  const init = program.func('int uv_poll_init(uintptr_t loop, uintptr_t handle, int fd)')
  // pointers the callbacks need not follow are taken as their low half, which costs no allocation
  const pollCallback = koffi.pointer(koffi.proto('void (int handleLow, int status, int events)'))
  const closeCallback = koffi.pointer(koffi.proto('void (uint64_t handle)'))
  const onClosed = new Map<bigint, () => void>()
  const closed = koffi.register((handle: number | bigint) => {
    const key = BigInt(handle)
    const done = onClosed.get(key)
    onClosed.delete(key)
    if (done) setImmediate(done)
  }, closeCallback)
  const started = new Set<bigint>()
  const stop = program.func('int uv_poll_stop(uintptr_t handle)')
  process.on('exit', () => {
    // the loop still turns while Node winds down, when no JavaScript may run any more
    for (const handle of started) stop(handle)
  })
  return {
    init: (handle, fd) => init(loop, handle, fd),
    start: program.func('int uv_poll_start(uintptr_t handle, int events, uintptr_t callback)'),
    stop,
    close: program.func('void uv_close(uintptr_t handle, uintptr_t callback)'),
    ref: program.func('void uv_ref(uintptr_t handle)'),
    unref: program.func('void uv_unref(uintptr_t handle)'),
    allocate: () => BigInt(calloc(1, handleBytes)),
    free: libc.func('void free(uintptr_t memory)'),
    register: (callback) => koffi.register(callback, pollCallback),
    unregister: koffi.unregister,
    closed,
    onClosed,
    started,
  }
}

/** libuv's poll drives the main thread's loop, and only koffi can take its callbacks. */
export function uvAvailable(calls: SystemCalls): boolean {
  if (!isMainThread || calls.provider.name !== 'koffi') return false
  if (libuv === undefined) {
    try {
      libuv = load()
    } catch {
      libuv = 'absent'
    }
  }
  return libuv !== 'absent'
}

/** The engine on libuv's uv_poll: no thread, 2 us from the signal to the handler. */
export function watchWithUv(calls: SystemCalls, fd: number, writable: boolean, handler: () => void): Watch {
  if (!uvAvailable(calls)) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      'The uv engine works in the main thread, with koffi and a Node that exports libuv. Use the epoll engine.',
    )
  }
  const uv = libuv as Libuv
  const events = writable ? UV_WRITABLE : UV_READABLE
  const handle = uv.allocate()
  const failed = uv.init(handle, fd)
  if (failed < 0) {
    uv.free(handle)
    throw systemError('uv_poll_init', failed, `watch fd ${fd}`)
  }
  let open = true
  const callback = uv.register((_, status) => {
    if (!open) return
    handler()
    // libuv stops a poll that saw POLLERR; going on until closed is what the other engine does
    if (open && status < 0) uv.start(handle, events, callback)
  })
  const close = () => {
    if (!open) return
    open = false
    uv.started.delete(handle)
    uv.onClosed.set(handle, () => {
      uv.unregister(callback)
      uv.free(handle)
    })
    uv.close(handle, uv.closed)
  }
  uv.started.add(handle)
  const refused = uv.start(handle, events, callback)
  if (refused < 0) {
    close()
    throw systemError('uv_poll_start', refused, `watch fd ${fd}`)
  }
  return {
    fd,
    ref: () => {
      if (open) uv.ref(handle)
    },
    unref: () => {
      if (open) uv.unref(handle)
    },
    close,
  }
}
