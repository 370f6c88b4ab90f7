import { readFileSync } from 'node:fs'
import { sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'

/** What the kernel will compare before it locks memory of this process. */
export interface MemlockState {
  /** RLIMIT_MEMLOCK, the soft limit; `Infinity` where there is none. */
  readonly limitBytes: number
  /** What is locked already. */
  readonly lockedBytes: number
  /** The process has CAP_IPC_LOCK and no limit applies to it. */
  readonly exempt: boolean
}

/** CAP_IPC_LOCK, include/uapi/linux/capability.h */
const CAP_IPC_LOCK = 14n

/** Reads the state of this process: vfio_iommu_type1 accounts to locked_vm, which is VmLck. */
export function readMemlock(): MemlockState {
  const status = readFileSync('/proc/self/status', 'utf8')
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\w+)`, 'm').exec(status)?.[1] ?? '0'
  return {
    limitBytes: sys.memlockLimit().softBytes,
    lockedBytes: Number(field('VmLck')) * 1024,
    exempt: ((BigInt(`0x${field('CapEff')}`) >> CAP_IPC_LOCK) & 1n) === 1n,
  }
}

/** True where the kernel would lock so many more bytes. */
export function mayLock(sizeBytes: number, state: MemlockState): boolean {
  return state.exempt || state.lockedBytes + sizeBytes <= state.limitBytes
}

/** The error for memory that may not be locked, with the ways to raise the limit. */
export function memlockError(sizeBytes: number, state: MemlockState, cause?: unknown) {
  const wanted = Math.ceil((state.lockedBytes + sizeBytes) / 1024)
  return accelError(
    'ERR_ACCEL_MEMLOCK',
    `mapping ${sizeBytes} bytes for DMA locks them in memory: ${wanted} KiB in all, and RLIMIT_MEMLOCK is ${state.limitBytes / 1024} KiB. ` +
      'Raise it: `ulimit -l unlimited` (as root, or up to the hard limit) in the shell that starts the program, ' +
      '`LimitMEMLOCK=infinity` in a systemd unit, or a line `USER - memlock unlimited` in /etc/security/limits.conf and a new login',
    { ...(cause === undefined ? {} : { cause }), details: { sizeBytes, ...state } },
  )
}
