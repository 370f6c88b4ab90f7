/**
 * Numbers of the Linux x86-64 ABI that the calls here take. The only ABI this package speaks: see `ffi.ts`.
 * Source of each group is named beside it (paths in the kernel tree).
 */

/** open(2) flags. include/uapi/asm-generic/fcntl.h */
export const O_RDONLY = 0
export const O_RDWR = 2
export const O_ACCMODE = 3
export const O_CREAT = 0o100
export const O_NONBLOCK = 0o4000
export const O_NOFOLLOW = 0o400000
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000

/** mmap(2). include/uapi/asm-generic/mman-common.h, mman.h */
export const PROT_NONE = 0
export const PROT_READ = 1
export const PROT_WRITE = 2
export const MAP_SHARED = 0x01
export const MAP_PRIVATE = 0x02
export const MAP_FIXED = 0x10
export const MAP_ANONYMOUS = 0x20
export const MAP_NORESERVE = 0x4000

/** madvise(2). include/uapi/asm-generic/mman-common.h */
export const MADV_DONTFORK = 10
export const MADV_POPULATE_WRITE = 23

/** memfd_create(2). include/uapi/linux/memfd.h */
export const MFD_CLOEXEC = 1
export const MFD_ALLOW_SEALING = 2
export const MFD_HUGETLB = 4
/** MFD_HUGE_2MB: the base-2 logarithm of the page's size from bit 26 on. */
export const MFD_HUGE_2MB = 21 << 26

/** flock(2). include/uapi/asm-generic/fcntl.h */
export const LOCK_EX = 2
export const LOCK_NB = 4

/** statfs(2). include/uapi/linux/magic.h */
export const HUGETLBFS_MAGIC = 0x958458f6

/** fcntl(2). include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h */
export const F_GETFL = 3
export const F_SETFL = 4
export const F_DUPFD_CLOEXEC = 1030
export const F_ADD_SEALS = 1033
export const F_GET_SEALS = 1034
export const F_SEAL_SEAL = 1
export const F_SEAL_SHRINK = 2
export const F_SEAL_GROW = 4
export const F_SEAL_WRITE = 8
export const F_SEAL_FUTURE_WRITE = 16

/** eventfd(2). include/uapi/linux/eventfd.h */
export const EFD_CLOEXEC = O_CLOEXEC
export const EFD_NONBLOCK = O_NONBLOCK

/** preadv2(2). include/uapi/linux/fs.h */
export const RWF_NOWAIT = 8

/** poll(2). include/uapi/asm-generic/poll.h */
export const POLLIN = 1
export const POLLOUT = 4
export const POLLERR = 8
export const POLLHUP = 16

/** epoll(7). include/uapi/linux/eventpoll.h */
export const EPOLL_CLOEXEC = O_CLOEXEC
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
export const EPOLLONESHOT = 1 << 30

/** Sockets. include/linux/socket.h, include/linux/net.h, include/uapi/asm-generic/socket.h */
export const AF_UNIX = 1
export const AF_NETLINK = 16
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_NONBLOCK = O_NONBLOCK
export const SOCK_CLOEXEC = O_CLOEXEC
export const SOL_SOCKET = 1
export const SO_TYPE = 3
export const SO_SNDBUF = 7
export const SO_RCVBUF = 8
export const SO_PEERCRED = 17
export const SO_SNDTIMEO = 21
export const SO_ACCEPTCONN = 30
export const SO_DOMAIN = 39
/** As SO_RCVBUF, beyond net.core.rmem_max: for CAP_NET_ADMIN. */
export const SO_RCVBUFFORCE = 33
export const SCM_RIGHTS = 1
export const MSG_CTRUNC = 0x08
export const MSG_TRUNC = 0x20
export const MSG_NOSIGNAL = 0x4000
export const MSG_CMSG_CLOEXEC = 0x40000000
export const SHUT_WR = 1
/** Descriptors in one message. SCM_MAX_FD, include/net/scm.h */
export const SCM_MAX_FD = 253

/** netlink(7). include/uapi/linux/netlink.h; the group of what the kernel itself sends: lib/kobject_uevent.c */
export const NETLINK_KOBJECT_UEVENT = 15
export const UEVENT_GROUP_KERNEL = 1

/** getrlimit(2). include/uapi/asm-generic/resource.h */
export const RLIMIT_MEMLOCK = 8

/** Bytes of a page: the only size that x86-64 has for a base page. arch/x86/include/asm/page_types.h */
export const PAGE_SIZE_BYTES = 4096
