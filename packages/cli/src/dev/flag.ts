import { AsyncLocalStorage } from 'node:async_hooks'
import type { Transport } from '@uaccel/core'
import { abi, createSealedMemory, Mapping } from '@uaccel/sys'

/*
 * The screen asks for attributes several times a second, and a driver reads registers for them. The process of the driver says so in a
 * word that the process of the model looks at: an access waits for its answer, so the word belongs to that access.
 */

/** Of the memory, in both processes: behind the socket of the node. */
export const FLAG_FD = 5

/** Memory for the word; its descriptor is the caller's. */
export const createFlag = (): number => createSealedMemory('uaccel-dev', abi.PAGE_SIZE_BYTES).fd

const word = () =>
  Mapping.map({ fd: FLAG_FD, offset: 0n, sizeBytes: abi.PAGE_SIZE_BYTES, label: 'the flag' }).window.u32

/** For the process of the model: whether the access that it answers is for the screen. */
export function readFlag(): () => boolean {
  const words = word()
  return () => words[0] !== 0
}

const looking = new AsyncLocalStorage<true>()

/** Runs `work`, whose register accesses are for the screen alone, in whatever turn they are made. */
export const look = <T>(work: () => Promise<T>): Promise<T> => looking.run(true, work)

/** The same transport, which says for each access to a BAR whether it is for the screen. */
export function flagged(transport: Transport): Transport {
  const words = word()
  const during = <A extends unknown[], R>(access: (...args: A) => R) => {
    return (...args: A): R => {
      if (!looking.getStore()) return access(...args)
      words[0] = 1
      try {
        return access(...args)
      } finally {
        words[0] = 0
      }
    }
  }
  // In place, as it keeps its state to itself.
  return Object.assign(transport, {
    read: during(transport.read.bind(transport)),
    write: during(transport.write.bind(transport)),
    read64: during(transport.read64.bind(transport)),
    write64: during(transport.write64.bind(transport)),
  })
}
