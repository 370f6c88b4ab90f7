import * as abi from './abi.js'

/*
 * Layouts of Linux x86-64. struct msghdr (56 bytes): name @0, namelen @8, iov @16, iovlen @24, control @32,
 * controllen @40, flags @48. struct iovec (16): base, len. struct cmsghdr (16): len, level, type; then data,
 * padded to 8. include/linux/socket.h, include/uapi/linux/uio.h
 */
const MSGHDR_BYTES = 56
const IOVEC_BYTES = 16
const CMSGHDR_BYTES = 16
const FD_BYTES = 4

type AddressOf = (buffer: Uint8Array) => bigint

const align8 = (n: number) => (n + 7) & ~7

/** Room for one SCM_RIGHTS message of `count` descriptors: CMSG_SPACE. */
const controlBytes = (count: number) => (count === 0 ? 0 : CMSGHDR_BYTES + align8(count * FD_BYTES))

/** A msghdr with what it points at; keep it referenced for as long as the kernel may use it. */
export interface Message {
  readonly header: Buffer
  readonly control: Buffer
  readonly parts: Buffer
  readonly buffers: readonly Uint8Array[]
}

function build(buffers: readonly Uint8Array[], control: Buffer, addressOf: AddressOf): Message {
  const parts = Buffer.alloc(Math.max(1, buffers.length) * IOVEC_BYTES)
  buffers.forEach((buffer, i) => {
    parts.writeBigUInt64LE(buffer.length === 0 ? 0n : addressOf(buffer), i * IOVEC_BYTES)
    parts.writeBigUInt64LE(BigInt(buffer.length), i * IOVEC_BYTES + 8)
  })
  const header = Buffer.alloc(MSGHDR_BYTES)
  header.writeBigUInt64LE(addressOf(parts), 16)
  header.writeBigUInt64LE(BigInt(buffers.length), 24)
  header.writeBigUInt64LE(control.length === 0 ? 0n : addressOf(control), 32)
  header.writeBigUInt64LE(BigInt(control.length), 40)
  return { header, control, parts, buffers }
}

export function messageToSend(
  buffers: readonly Uint8Array[],
  fds: readonly number[],
  addressOf: AddressOf,
): Message {
  const control = Buffer.alloc(controlBytes(fds.length))
  if (fds.length > 0) {
    control.writeBigUInt64LE(BigInt(CMSGHDR_BYTES + fds.length * FD_BYTES), 0)
    control.writeInt32LE(abi.SOL_SOCKET, 8)
    control.writeInt32LE(abi.SCM_RIGHTS, 12)
    fds.forEach((fd, i) => {
      control.writeInt32LE(fd, CMSGHDR_BYTES + i * FD_BYTES)
    })
  }
  return build(buffers, control, addressOf)
}

/**
 * A msghdr to receive into, made once and used for every message. The control buffer always has room for all that a
 * message can carry: the kernel installs descriptors that fit and drops the rest, and one that is installed unseen is
 * leaked.
 */
export function messageToReceive(addressOf: AddressOf): Message {
  return build([new Uint8Array(0)], Buffer.alloc(controlBytes(abi.SCM_MAX_FD)), addressOf)
}

/** Has the next message go into `buffer`. */
export function receiveInto({ header, control, parts }: Message, buffer: Uint8Array, address: bigint): void {
  parts.writeBigUInt64LE(address, 0)
  parts.writeBigUInt64LE(BigInt(buffer.length), 8)
  header.writeUInt32LE(control.length, 40)
  header.writeUInt32LE(0, 44)
  header.writeInt32LE(0, 48)
}

/** The descriptors that a received message brought, all now open in this process; and the kernel's flags. */
export function received(message: Message): { fds: number[]; flags: number } {
  const { header, control } = message
  const flags = header.readInt32LE(48)
  const end = Math.min(Number(header.readBigUInt64LE(40)), control.length)
  const fds: number[] = []
  for (let at = 0; at + CMSGHDR_BYTES <= end; ) {
    const length = Number(control.readBigUInt64LE(at))
    if (length < CMSGHDR_BYTES || at + length > end) break
    if (control.readInt32LE(at + 8) === abi.SOL_SOCKET && control.readInt32LE(at + 12) === abi.SCM_RIGHTS) {
      for (let fd = at + CMSGHDR_BYTES; fd + FD_BYTES <= at + length; fd += FD_BYTES) {
        fds.push(control.readInt32LE(fd))
      }
    }
    at += align8(length)
  }
  return { fds, flags }
}
