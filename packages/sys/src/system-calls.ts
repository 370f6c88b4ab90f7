import { fstatSync } from 'node:fs'
import { constants } from 'node:os'
import { accelError, isAccelError } from '@uaccel/uapi'
import * as abi from './abi.js'
import { type FfiProvider, type ProviderName, requirePlatform } from './ffi.js'
import { ffiRsProvider } from './ffi-ffirs.js'
import { koffiProvider } from './ffi-koffi.js'
import { type Message, messageToReceive, messageToSend, received, receiveInto } from './message.js'
import { EAGAIN, EINTR } from './raw-calls.js'
import { systemError } from './system-error.js'

/** What `recvmsg` took from a socket. */
export interface ReceivedMessage {
  /** Bytes written to the buffer; 0 is the end of the stream. */
  bytes: number
  /** Descriptors that came along, close-on-exec and owned by the caller from now on. */
  fds: number[]
  /** Descriptors were dropped: more came than `maxFds`, or than this process may open. */
  truncated: boolean
}

/** A datagram of a netlink socket. */
export interface NetlinkMessage {
  /** Bytes written to the buffer. */
  bytes: number
  /** The message was longer than the buffer; its rest is gone. */
  truncated: boolean
  /** Who sent it, as the kernel vouches: 0 for the kernel itself. */
  portId: number
}

/** One descriptor to wait for. Events are `POLLIN`, `POLLOUT`; errors and hang-ups are always reported. */
export interface PollRequest {
  fd: number
  events: number
}

/** Limits in bytes; `Infinity` where there is none. */
export interface ResourceLimit {
  softBytes: number
  hardBytes: number
}

/** What the kernel was given by address: must not be collected before its call ends. */
const inUse = new Set<unknown>()

const RLIM_INFINITY = (1n << 64n) - 1n
/** sizeof(sun_path) without the final NUL. include/uapi/linux/un.h */
const MAX_SOCKET_PATH_BYTES = 107

/** sizeof(struct sockaddr_nl) */
const SOCKADDR_NL_BYTES = 12

/** A path, or with `@` in front a name of the abstract name space: there the NUL comes first, and none ends it. unix(7) */
function notifyAddress(name: string): Uint8Array {
  if (!name.startsWith('@')) return socketAddress(name)
  const address = Buffer.from(socketAddress(name)).subarray(0, -1)
  address[2] = 0
  return address
}

function socketAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path)
  if (bytes.length === 0 || bytes.length > MAX_SOCKET_PATH_BYTES || bytes.includes(0)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `A socket path has 1 to ${MAX_SOCKET_PATH_BYTES} bytes, none of them NUL; "${path}" has ${bytes.length}. Use a shorter path.`,
    )
  }
  const address = Buffer.alloc(2 + bytes.length + 1)
  address.writeUInt16LE(abi.AF_UNIX, 0)
  address.set(bytes, 2)
  return address
}

/** Unit of `st_blocks`, whatever the file system (inode(7)). */
const STAT_BLOCK_BYTES = 512

/**
 * System calls whose failures are typed errors: every method throws an `AccelError` with `errno` and `syscall`
 * (see {@link systemError} for its code). Calls that a signal interrupted are made again. Descriptors are
 * always close-on-exec.
 */
export class SystemCalls {
  readonly #load: () => FfiProvider
  #provider: FfiProvider | undefined
  #incoming: Message | undefined

  constructor(load: () => FfiProvider) {
    this.#load = load
  }

  /** The library behind the calls, loaded on first use. @throws ERR_ACCEL_UNSUPPORTED not on x86-64 Linux */
  get provider(): FfiProvider {
    if (this.#provider === undefined) {
      requirePlatform()
      this.#provider = this.#load()
    }
    return this.#provider
  }

  #check(syscall: string, result: number, what: string): number {
    if (result < 0) throw systemError(syscall, result, what)
    return result
  }

  /** `flags` are `abi.O_*`. */
  open(path: string, flags: number, mode = 0o600): number {
    const { raw } = this.provider
    if (path.includes('\0')) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'A path cannot contain a NUL byte.')
    }
    let fd = EINTR
    while (fd === EINTR) fd = raw.open(path, flags | abi.O_CLOEXEC, mode)
    return this.#check('open', fd, path)
  }

  /** Never repeated after EINTR: on Linux the descriptor is gone either way. */
  close(fd: number): void {
    const result = this.provider.raw.close(fd)
    if (result !== EINTR) this.#check('close', result, `fd ${fd}`)
  }

  /** As `close`, on another thread: for a descriptor whose last close has the kernel do work, such as resetting a device. */
  async closeAsync(fd: number): Promise<void> {
    const result = await this.provider.closeAsync(fd)
    if (result !== EINTR) this.#check('close', result, `fd ${fd}`)
  }

  dup(fd: number): number {
    return this.#check('fcntl', this.provider.raw.fcntl(fd, abi.F_DUPFD_CLOEXEC, 0), `duplicate fd ${fd}`)
  }

  /**
   * @param arg A buffer is passed in place and may be written by the kernel; a number or bigint is the value.
   * @returns The call's result, zero or positive.
   */
  ioctl(fd: number, request: number, arg: Uint8Array | bigint | number = 0, what = `fd ${fd}`): number {
    const { raw } = this.provider
    let result = EINTR
    while (result === EINTR) {
      result = typeof arg === 'object' ? raw.ioctlBuffer(fd, request, arg) : raw.ioctl(fd, request, arg)
    }
    return this.#check('ioctl', result, `request 0x${request.toString(16)} on ${what}`)
  }

  /** As `ioctl`, on another thread: for requests that can take long, such as opening or resetting a device. */
  async ioctlAsync(
    fd: number,
    request: number,
    arg: Uint8Array | bigint | number = 0,
    what = `fd ${fd}`,
  ): Promise<number> {
    const { provider } = this
    const value = typeof arg === 'object' ? this.addressOf(arg) : arg
    const use = { arg }
    inUse.add(use)
    let result = EINTR
    try {
      while (result === EINTR) result = await provider.ioctlAsync(fd, request, value)
    } finally {
      inUse.delete(use)
    }
    return this.#check('ioctl', result, `request 0x${request.toString(16)} on ${what}`)
  }

  /** Address of a buffer's first byte. Node never moves a buffer whose address was asked for. */
  addressOf(buffer: Uint8Array): bigint {
    return this.provider.raw.addressOf(buffer, buffer, 0)
  }

  /** @param address Where, with MAP_FIXED; otherwise 0n. @returns Where it was mapped. */
  mmap(
    address: bigint,
    sizeBytes: number,
    prot: number,
    flags: number,
    fd: number,
    offset: number | bigint,
  ): bigint {
    const result = this.provider.raw.mmap(address, sizeBytes, prot, flags, fd, offset)
    if (result < 0n) {
      const of = fd < 0 ? 'anonymous memory' : `fd ${fd} at offset 0x${offset.toString(16)}`
      throw systemError('mmap', Number(result), `${sizeBytes} bytes of ${of}`)
    }
    return result
  }

  munmap(address: bigint, sizeBytes: number): void {
    this.#check('munmap', this.provider.raw.munmap(address, sizeBytes), `0x${address.toString(16)}`)
  }

  madvise(address: bigint, sizeBytes: number, advice: number): void {
    const result = this.provider.raw.madvise(address, sizeBytes, advice)
    this.#check('madvise', result, `advice ${advice} at 0x${address.toString(16)}`)
  }

  memfdCreate(name: string, flags = abi.MFD_ALLOW_SEALING): number {
    const fd = this.provider.raw.memfdCreate(name, flags | abi.MFD_CLOEXEC)
    return this.#check('memfd_create', fd, name)
  }

  ftruncate(fd: number, sizeBytes: number | bigint): void {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.ftruncate(fd, sizeBytes)
    this.#check('ftruncate', result, `fd ${fd} to ${sizeBytes} bytes`)
  }

  /** Size in bytes and mode of an open file. */
  fstat(fd: number): { sizeBytes: number; mode: number } {
    try {
      const { size, mode } = fstatSync(fd)
      return { sizeBytes: size, mode }
    } catch (cause) {
      // Node refuses what cannot be a descriptor before it asks the kernel
      const { errno = -constants.errno.EBADF } = cause as NodeJS.ErrnoException
      throw systemError('fstat', errno, `fd ${fd}`)
    }
  }

  /**
   * Which file a descriptor is of: `id` is the same for all descriptors of it, and no other file's while one of them, or a
   * mapping, is there. With its size, what of it takes memory, and the block size of its file system: of huge pages, that of a page.
   */
  identify(fd: number): { id: string; sizeBytes: number; blockBytes: number; residentBytes: number } {
    try {
      const { dev, ino, size, blksize, blocks } = fstatSync(fd, { bigint: true })
      return {
        id: `${dev}:${ino}`,
        sizeBytes: Number(size),
        blockBytes: Number(blksize),
        residentBytes: Number(blocks) * STAT_BLOCK_BYTES,
      }
    } catch (cause) {
      const { errno = -constants.errno.EBADF } = cause as NodeJS.ErrnoException
      throw systemError('fstat', errno, `fd ${fd}`)
    }
  }

  /** Adds `abi.F_SEAL_*` to a memfd. */
  addSeals(fd: number, seals: number): void {
    this.#check('fcntl', this.provider.raw.fcntl(fd, abi.F_ADD_SEALS, seals), `seal fd ${fd}`)
  }

  /** The `abi.F_SEAL_*` of a memfd. Throws (EINVAL) for what cannot be sealed. */
  getSeals(fd: number): number {
    return this.#check('fcntl', this.provider.raw.fcntl(fd, abi.F_GET_SEALS, 0), `seals of fd ${fd}`)
  }

  /** How a file was opened: `abi.O_*`. */
  getFlags(fd: number): number {
    return this.#check('fcntl', this.provider.raw.fcntl(fd, abi.F_GETFL, 0), `flags of fd ${fd}`)
  }

  setNonblocking(fd: number, nonblocking = true): void {
    const flags = this.getFlags(fd)
    const wanted = nonblocking ? flags | abi.O_NONBLOCK : flags & ~abi.O_NONBLOCK
    if (wanted === flags) return
    this.#check('fcntl', this.provider.raw.fcntl(fd, abi.F_SETFL, wanted), `flags of fd ${fd}`)
  }

  /**
   * Locks an open file for its opener alone, until it is closed by all who have this opening of it (children included).
   *
   * @returns False where another opening of the file, in this process or another, holds the lock.
   */
  lockFile(fd: number): boolean {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.flock(fd, abi.LOCK_EX | abi.LOCK_NB)
    if (result === EAGAIN) return false
    this.#check('flock', result, `fd ${fd}`)
    return true
  }

  eventfd(initial = 0, flags = abi.EFD_NONBLOCK): number {
    return this.#check('eventfd2', this.provider.raw.eventfd(initial, flags | abi.EFD_CLOEXEC), 'eventfd')
  }

  /** @returns Bytes read, 0 at the end; undefined where a non-blocking descriptor has none now. */
  read(fd: number, buffer: Uint8Array): number | undefined {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.read(fd, buffer, buffer.length)
    return result === EAGAIN ? undefined : this.#check('read', result, `fd ${fd}`)
  }

  /** @returns Bytes written, perhaps fewer than asked; undefined where a non-blocking one takes none now. */
  write(fd: number, buffer: Uint8Array): number | undefined {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.write(fd, buffer, buffer.length)
    return result === EAGAIN ? undefined : this.#check('write', result, `fd ${fd}`)
  }

  /** @returns Bytes read, perhaps fewer than the buffer holds. */
  pread(fd: number, buffer: Uint8Array, offset: number | bigint): number {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.pread(fd, buffer, buffer.length, offset)
    return this.#check('pread', result, `${buffer.length} bytes at 0x${offset.toString(16)} of fd ${fd}`)
  }

  /** @returns Bytes written, perhaps fewer than the buffer holds. */
  pwrite(fd: number, buffer: Uint8Array, offset: number | bigint): number {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.pwrite(fd, buffer, buffer.length, offset)
    return this.#check('pwrite', result, `${buffer.length} bytes at 0x${offset.toString(16)} of fd ${fd}`)
  }

  /**
   * Waits for descriptors and blocks the thread meanwhile: for synchronous exchanges with a limit.
   *
   * @param timeoutMs Limit; -1 for none.
   * @returns What happened to each, as `abi.POLL*`, in order; undefined at the limit.
   */
  poll(requests: readonly PollRequest[], timeoutMs: number): number[] | undefined {
    const fds = Buffer.alloc(8 * requests.length)
    requests.forEach(({ fd, events }, i) => {
      fds.writeInt32LE(fd, 8 * i)
      fds.writeInt16LE(events, 8 * i + 4)
    })
    const end = performance.now() + timeoutMs
    let result = this.provider.raw.poll(fds, requests.length, timeoutMs)
    while (result === EINTR) {
      const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(end - performance.now()))
      result = this.provider.raw.poll(fds, requests.length, left)
    }
    if (this.#check('poll', result, `${requests.length} descriptors`) === 0) return undefined
    return requests.map((_, i) => fds.readInt16LE(8 * i + 6))
  }

  /** Two connected Unix stream sockets. @param flags `abi.SOCK_NONBLOCK` or 0 */
  socketpair(flags = 0): [number, number] {
    const fds = Buffer.alloc(8)
    const type = abi.SOCK_STREAM | abi.SOCK_CLOEXEC | flags
    this.#check('socketpair', this.provider.raw.socketpair(abi.AF_UNIX, type, 0, fds), 'unix')
    return [fds.readInt32LE(0), fds.readInt32LE(4)]
  }

  #unixSocket(use: (fd: number) => void, flags: number): number {
    return this.#socket(abi.AF_UNIX, abi.SOCK_STREAM | flags, 0, use)
  }

  #socket(family: number, type: number, protocol: number, use: (fd: number) => void): number {
    const result = this.provider.raw.socket(family, type | abi.SOCK_CLOEXEC, protocol)
    const fd = this.#check('socket', result, `family ${family}, protocol ${protocol}`)
    try {
      use(fd)
      return fd
    } catch (error) {
      this.close(fd)
      throw error
    }
  }

  /**
   * A Unix stream socket connected to `path`. Blocks only where the listener's queue is full, as that of one which hangs is.
   *
   * @throws ERR_ACCEL_TIMEOUT (`errno` EAGAIN) the queue did not move within `timeoutMs`
   */
  connectUnix(path: string, timeoutMs = 5000): number {
    const address = socketAddress(path)
    return this.#unixSocket((fd) => {
      this.#sendLimit(fd, timeoutMs)
      let result = EINTR
      while (result === EINTR) result = this.provider.raw.connect(fd, address, address.length)
      if (result === EAGAIN) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `The listener on ${path} did not take a connection within ${timeoutMs} ms: its queue is full. Is it alive?`,
          { errno: 'EAGAIN', syscall: 'connect' },
        )
      }
      this.#check('connect', result, path)
      this.#sendLimit(fd, 0)
    }, 0)
  }

  /** A non-blocking Unix datagram socket connected to a path, or to `@name` in the abstract name space. */
  connectDatagram(name: string): number {
    const address = notifyAddress(name)
    return this.#socket(abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_NONBLOCK, 0, (fd) => {
      this.#check('connect', this.provider.raw.connect(fd, address, address.length), name)
    })
  }

  /** A non-blocking Unix datagram socket that receives at a path, or at `@name` in the abstract name space. */
  bindDatagram(name: string): number {
    const address = notifyAddress(name)
    return this.#socket(abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_NONBLOCK, 0, (fd) => {
      this.#check('bind', this.provider.raw.bind(fd, address, address.length), name)
    })
  }

  /** How long connect and send block: a struct timeval, seconds and microseconds; 0 is for ever. */
  #sendLimit(fd: number, timeoutMs: number): void {
    const limit = Buffer.alloc(16)
    limit.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0)
    limit.writeBigInt64LE(BigInt(Math.floor((timeoutMs % 1000) * 1000)), 8)
    const result = this.provider.raw.setsockopt(fd, abi.SOL_SOCKET, abi.SO_SNDTIMEO, limit, limit.length)
    this.#check('setsockopt', result, `limit of fd ${fd}`)
  }

  /** A non-blocking Unix stream socket that listens at `path`, which must not exist yet. */
  listenUnix(path: string, backlog = 16): number {
    const address = socketAddress(path)
    return this.#unixSocket((fd) => {
      this.#check('bind', this.provider.raw.bind(fd, address, address.length), path)
      this.#check('listen', this.provider.raw.listen(fd, backlog), path)
    }, abi.SOCK_NONBLOCK)
  }

  /** The next connection of a listening socket; undefined where a non-blocking one has none now. */
  accept(fd: number, flags = 0): number | undefined {
    let result = EINTR
    while (result === EINTR) result = this.provider.raw.accept(fd, 0n, 0n, abi.SOCK_CLOEXEC | flags)
    return result === EAGAIN ? undefined : this.#check('accept', result, `fd ${fd}`)
  }

  /** @param how `abi.SHUT_*` */
  shutdown(fd: number, how: number): void {
    this.#check('shutdown', this.provider.raw.shutdown(fd, how), `fd ${fd}`)
  }

  /** Sets an integer option at SOL_SOCKET level, such as `abi.SO_SNDBUF`. */
  setSocketOption(fd: number, option: number, value: number): void {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    const result = this.provider.raw.setsockopt(fd, abi.SOL_SOCKET, option, bytes, bytes.length)
    this.#check('setsockopt', result, `option ${option} of fd ${fd}`)
  }

  /** An integer option at SOL_SOCKET level, such as `abi.SO_TYPE`. */
  getSocketOption(fd: number, option: number): number {
    const bytes = Buffer.alloc(4)
    const size = Buffer.alloc(4)
    size.writeUInt32LE(bytes.length)
    const result = this.provider.raw.getsockopt(fd, abi.SOL_SOCKET, option, bytes, size)
    this.#check('getsockopt', result, `option ${option} of fd ${fd}`)
    return bytes.readInt32LE(0)
  }

  /** Who is at the other end of a Unix socket, as it was when it connected. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number } {
    const credentials = Buffer.alloc(12)
    const size = Buffer.alloc(4)
    size.writeUInt32LE(credentials.length)
    const result = this.provider.raw.getsockopt(fd, abi.SOL_SOCKET, abi.SO_PEERCRED, credentials, size)
    this.#check('getsockopt', result, `credentials of fd ${fd}`)
    return {
      pid: credentials.readInt32LE(0),
      uid: credentials.readUInt32LE(4),
      gid: credentials.readUInt32LE(8),
    }
  }

  /**
   * Sends bytes without descriptors: one native call, where `sendmsg` needs several. Otherwise as {@link sendmsg}.
   *
   * @returns Bytes taken, perhaps fewer than asked; undefined where a non-blocking socket takes none now.
   */
  send(fd: number, buffer: Uint8Array, flags = 0): number | undefined {
    let result = EINTR
    while (result === EINTR) {
      result = this.provider.raw.send(fd, buffer, buffer.length, flags | abi.MSG_NOSIGNAL)
    }
    return result === EAGAIN ? undefined : this.#check('send', result, `fd ${fd}`)
  }

  /**
   * Sends the buffers as one message, with descriptors. A peer that is gone is an error (EPIPE:
   * ERR_ACCEL_CLOSED), never a signal.
   *
   * @returns Bytes taken, perhaps fewer on a stream (the descriptors then went along with them); undefined
   *   where a non-blocking socket takes none now.
   */
  sendmsg(
    fd: number,
    buffers: readonly Uint8Array[],
    fds: readonly number[] = [],
    flags = 0,
  ): number | undefined {
    if (fds.length > abi.SCM_MAX_FD) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A message carries at most ${abi.SCM_MAX_FD} descriptors, not ${fds.length}. Send several messages.`,
      )
    }
    const message = messageToSend(buffers, fds, (buffer) => this.addressOf(buffer))
    inUse.add(message)
    let result = EINTR
    while (result === EINTR) {
      result = this.provider.raw.sendmsg(fd, message.header, flags | abi.MSG_NOSIGNAL)
    }
    inUse.delete(message)
    return result === EAGAIN ? undefined : this.#check('sendmsg', result, `fd ${fd}`)
  }

  /**
   * Receives into `buffer`, with at most `maxFds` descriptors; what comes beyond is closed and reported as
   * `truncated`.
   *
   * @returns undefined where a non-blocking socket has nothing now.
   */
  recvmsg(fd: number, buffer: Uint8Array, maxFds = 0, flags = 0): ReceivedMessage | undefined {
    this.#incoming ??= messageToReceive((part) => this.addressOf(part))
    const message = this.#incoming
    receiveInto(message, buffer, this.addressOf(buffer))
    let bytes = EINTR
    while (bytes === EINTR) {
      bytes = this.provider.raw.recvmsg(fd, message.header, flags | abi.MSG_CMSG_CLOEXEC)
    }
    if (bytes === EAGAIN) return undefined
    this.#check('recvmsg', bytes, `fd ${fd}`)
    const { fds, flags: outcome } = received(message)
    for (const extra of fds.slice(maxFds)) this.close(extra)
    return {
      bytes,
      fds: fds.slice(0, maxFds),
      truncated: fds.length > maxFds || (outcome & abi.MSG_CTRUNC) !== 0,
    }
  }

  /**
   * A non-blocking netlink socket that receives what is sent to the multicast groups of a bit mask.
   *
   * @param receiveBytes Room for what waits to be read; as much as this user may have, where that is less.
   */
  netlink(protocol: number, groups: number, receiveBytes: number): number {
    return this.#socket(abi.AF_NETLINK, abi.SOCK_DGRAM | abi.SOCK_NONBLOCK, protocol, (fd) => {
      try {
        this.setSocketOption(fd, abi.SO_RCVBUFFORCE, receiveBytes)
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_PERMISSION')) throw error
        this.setSocketOption(fd, abi.SO_RCVBUF, receiveBytes)
      }
      // struct sockaddr_nl: family, padding, port (0: the kernel chooses), groups. include/uapi/linux/netlink.h
      const address = Buffer.alloc(SOCKADDR_NL_BYTES)
      address.writeUInt16LE(abi.AF_NETLINK, 0)
      address.writeUInt32LE(groups, 8)
      this.#check('bind', this.provider.raw.bind(fd, address, address.length), `netlink groups ${groups}`)
    })
  }

  /**
   * Receives one datagram of a netlink socket into `buffer`. Fails with ENOBUFS, once, where the kernel had to drop some.
   *
   * @returns undefined where there is none now.
   */
  receiveNetlink(fd: number, buffer: Uint8Array): NetlinkMessage | undefined {
    const address = Buffer.alloc(SOCKADDR_NL_BYTES)
    const size = Buffer.alloc(4)
    size.writeUInt32LE(address.length)
    let length = EINTR
    while (length === EINTR) {
      length = this.provider.raw.recvfrom(fd, buffer, buffer.length, abi.MSG_TRUNC, address, size)
    }
    if (length === EAGAIN) return undefined
    this.#check('recvfrom', length, `fd ${fd}`)
    const bytes = Math.min(length, buffer.length)
    return { bytes, truncated: length > bytes, portId: address.readUInt32LE(4) }
  }

  /** How much memory this process may lock, and so map for DMA. */
  memlockLimit(): ResourceLimit {
    const limits = Buffer.alloc(16)
    this.#check('getrlimit', this.provider.raw.getrlimit(abi.RLIMIT_MEMLOCK, limits), 'RLIMIT_MEMLOCK')
    const bytes = (at: number) => {
      const value = limits.readBigUInt64LE(at)
      return value === RLIM_INFINITY ? Number.POSITIVE_INFINITY : Number(value)
    }
    return { softBytes: bytes(0), hardBytes: bytes(8) }
  }
}

const loaders: Record<ProviderName, () => FfiProvider> = { koffi: koffiProvider, 'ffi-rs': ffiRsProvider }
const instances = new Map<ProviderName, SystemCalls>()

/**
 * The system calls over a named library, which is loaded at the first call.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT no such provider
 */
export function systemCalls(name: ProviderName): SystemCalls {
  const load = loaders[name]
  if (load === undefined) {
    const known = Object.keys(loaders).join(', ')
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `No FFI provider "${name}"; choose one of ${known}.`)
  }
  let calls = instances.get(name)
  if (calls === undefined) {
    calls = new SystemCalls(load)
    instances.set(name, calls)
  }
  return calls
}

/** The system calls over the provider that `UACCEL_FFI` names; over koffi where it names none. */
export const sys: SystemCalls = systemCalls((process.env.UACCEL_FFI || 'koffi') as ProviderName)
