import { constants } from 'node:os'

/*
 * What the libraries for foreign functions need to make the calls, and no more: the helper thread of `watch-epoll.ts` loads this
 * at each start.
 */

/**
 * C types as the calls below use them. `buffer` is a Uint8Array handed over in place; `u64` takes a number or
 * a bigint and also carries addresses.
 */
export type ArgType = 'i32' | 'u32' | 'u64' | 'str' | 'buffer'
export type ResultType = 'i32' | 'i64' | 'address'

interface Signature {
  /** Name in libc. */
  symbol: string
  result: ResultType
  args: readonly ArgType[]
}

const sig = (symbol: string, result: ResultType, ...args: ArgType[]): Signature => ({ symbol, result, args })

/** Every native function of the project, by the name that it has in {@link RawCalls}. */
export const signatures = {
  open: sig('open', 'i32', 'str', 'i32', 'u32'),
  close: sig('close', 'i32', 'i32'),
  read: sig('read', 'i64', 'i32', 'buffer', 'u64'),
  write: sig('write', 'i64', 'i32', 'buffer', 'u64'),
  preadv2: sig('preadv64v2', 'i64', 'i32', 'buffer', 'i32', 'u64', 'i32'),
  pread: sig('pread64', 'i64', 'i32', 'buffer', 'u64', 'u64'),
  pwrite: sig('pwrite64', 'i64', 'i32', 'buffer', 'u64', 'u64'),
  fcntl: sig('fcntl64', 'i32', 'i32', 'i32', 'u64'),
  flock: sig('flock', 'i32', 'i32', 'i32'),
  ftruncate: sig('ftruncate64', 'i32', 'i32', 'u64'),
  ioctl: sig('ioctl', 'i32', 'i32', 'u64', 'u64'),
  ioctlBuffer: sig('ioctl', 'i32', 'i32', 'u64', 'buffer'),
  mmap: sig('mmap', 'address', 'u64', 'u64', 'i32', 'i32', 'i32', 'u64'),
  munmap: sig('munmap', 'i32', 'u64', 'u64'),
  madvise: sig('madvise', 'i32', 'u64', 'u64', 'i32'),
  memfdCreate: sig('memfd_create', 'i32', 'str', 'u32'),
  eventfd: sig('eventfd', 'i32', 'u32', 'i32'),
  poll: sig('poll', 'i32', 'buffer', 'u64', 'i32'),
  epollCreate: sig('epoll_create1', 'i32', 'i32'),
  epollCtl: sig('epoll_ctl', 'i32', 'i32', 'i32', 'i32', 'buffer'),
  epollWait: sig('epoll_wait', 'i32', 'i32', 'buffer', 'i32', 'i32'),
  socket: sig('socket', 'i32', 'i32', 'i32', 'i32'),
  socketpair: sig('socketpair', 'i32', 'i32', 'i32', 'i32', 'buffer'),
  bind: sig('bind', 'i32', 'i32', 'buffer', 'u32'),
  connect: sig('connect', 'i32', 'i32', 'buffer', 'u32'),
  listen: sig('listen', 'i32', 'i32', 'i32'),
  accept: sig('accept4', 'i32', 'i32', 'u64', 'u64', 'i32'),
  shutdown: sig('shutdown', 'i32', 'i32', 'i32'),
  setsockopt: sig('setsockopt', 'i32', 'i32', 'i32', 'i32', 'buffer', 'u32'),
  getsockopt: sig('getsockopt', 'i32', 'i32', 'i32', 'i32', 'buffer', 'buffer'),
  send: sig('send', 'i64', 'i32', 'buffer', 'u64', 'i32'),
  recvfrom: sig('recvfrom', 'i64', 'i32', 'buffer', 'u64', 'i32', 'buffer', 'buffer'),
  sendmsg: sig('sendmsg', 'i64', 'i32', 'buffer', 'i32'),
  recvmsg: sig('recvmsg', 'i64', 'i32', 'buffer', 'i32'),
  getrlimit: sig('getrlimit', 'i32', 'i32', 'buffer'),
  /** memmove(b, b, 0) answers b: how the address of a JavaScript buffer is learnt without another primitive. */
  addressOf: sig('memmove', 'address', 'buffer', 'buffer', 'u64'),
} satisfies Record<string, Signature>

export type Word = number | bigint

/** The table above as functions. Each answers its result, or `-errno` (also where the result is an address). */
export interface RawCalls {
  open(path: string, flags: number, mode: number): number
  close(fd: number): number
  read(fd: number, buffer: Uint8Array, sizeBytes: number): number
  write(fd: number, buffer: Uint8Array, sizeBytes: number): number
  pread(fd: number, buffer: Uint8Array, sizeBytes: number, offset: Word): number
  preadv2(fd: number, vectors: Uint8Array, count: number, offset: Word, flags: number): number
  pwrite(fd: number, buffer: Uint8Array, sizeBytes: number, offset: Word): number
  fcntl(fd: number, command: number, arg: Word): number
  flock(fd: number, operation: number): number
  ftruncate(fd: number, sizeBytes: Word): number
  ioctl(fd: number, request: Word, arg: Word): number
  ioctlBuffer(fd: number, request: Word, arg: Uint8Array): number
  mmap(address: bigint, sizeBytes: Word, prot: number, flags: number, fd: number, offset: Word): bigint
  munmap(address: bigint, sizeBytes: Word): number
  madvise(address: bigint, sizeBytes: Word, advice: number): number
  memfdCreate(name: string, flags: number): number
  eventfd(initial: number, flags: number): number
  poll(fds: Uint8Array, count: number, timeoutMs: number): number
  epollCreate(flags: number): number
  epollCtl(epfd: number, op: number, fd: number, event: Uint8Array): number
  epollWait(epfd: number, events: Uint8Array, maxEvents: number, timeoutMs: number): number
  socket(family: number, type: number, protocol: number): number
  socketpair(family: number, type: number, protocol: number, fds: Uint8Array): number
  bind(fd: number, address: Uint8Array, sizeBytes: number): number
  connect(fd: number, address: Uint8Array, sizeBytes: number): number
  listen(fd: number, backlog: number): number
  accept(fd: number, address: bigint, sizeBytes: bigint, flags: number): number
  shutdown(fd: number, how: number): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, sizeBytes: number): number
  getsockopt(fd: number, level: number, option: number, value: Uint8Array, sizeBytes: Uint8Array): number
  send(fd: number, buffer: Uint8Array, sizeBytes: number, flags: number): number
  recvfrom(
    fd: number,
    buffer: Uint8Array,
    sizeBytes: number,
    flags: number,
    address: Uint8Array,
    addressBytes: Uint8Array,
  ): number
  sendmsg(fd: number, header: Uint8Array, flags: number): number
  recvmsg(fd: number, header: Uint8Array, flags: number): number
  getrlimit(resource: number, limits: Uint8Array): number
  addressOf(buffer: Uint8Array, same: Uint8Array, zero: number): bigint
}

/** Kernel error numbers, negated as raw calls answer them. include/uapi/asm-generic/errno-base.h, errno.h */
export const EINTR = -constants.errno.EINTR
export const EAGAIN = -constants.errno.EAGAIN
export const EOPNOTSUPP = -constants.errno.EOPNOTSUPP
