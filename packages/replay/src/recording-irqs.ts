import { type IrqType, irqTypes, type Transport } from '@uaccel/core'
import { abi, EventFd, sys, type Watch, watch } from '@uaccel/sys'
import { Kind } from './kinds.js'
import type { RecordWriter } from './writer.js'

interface Vector {
  readonly ours: EventFd
  readonly watching: Watch
  /** The driver's, which stays its own. */
  readonly theirs: EventFd
  /** What was signalled and is not in the recording yet. */
  untold: number
}

/**
 * The interrupts of a recorded device: it signals eventfds of ours, and we those of the driver. An interrupt is recorded where the
 * driver takes it, which is where its handler begins: what else the driver did since it arrived comes before it in the recording.
 */
export class RecordingIrqs {
  readonly #inner: Transport
  readonly #writer: RecordWriter
  /** Something of the device is about to reach the driver: what it left in memory comes first. */
  readonly #arrived: () => void
  readonly #armed = new Map<IrqType, (Vector | undefined)[]>()
  #untold = 0

  constructor(inner: Transport, writer: RecordWriter, arrived: () => void) {
    this.#inner = inner
    this.#writer = writer
    this.#arrived = arrived
  }

  /** Arms the device with eventfds of ours. What is armed already of that kind is replaced. */
  arm(type: IrqType, fds: readonly number[]): void {
    this.#release(type)
    const vectors = fds.map((fd, vector) => (fd < 0 ? undefined : this.#vector(type, vector, fd)))
    try {
      this.#inner.setIrqs(
        type,
        vectors.map((vector) => vector?.ours.fd ?? -1),
      )
    } catch (error) {
      close(vectors)
      throw error
    }
    this.#armed.set(type, vectors)
  }

  isArmed(type: IrqType): boolean {
    return this.#armed.has(type)
  }

  disarm(type: IrqType): void {
    try {
      this.#inner.disableIrqs(type)
    } finally {
      this.#release(type) // the driver closes its eventfds, also where the device is gone
    }
  }

  /** Forgets what a reset disarmed. */
  forget(): void {
    for (const type of [...this.#armed.keys()]) this.#release(type)
  }

  /** Records the interrupts that the driver has taken by now: all of them with `all`. */
  settle(all = false): void {
    if (this.#untold === 0) return
    for (const [type, vectors] of this.#armed) {
      for (const [vector, it] of vectors.entries()) if (it !== undefined) this.#tell(type, vector, it, all)
    }
  }

  #vector(type: IrqType, vector: number, fd: number): Vector {
    const ours = new EventFd()
    const theirs = new EventFd(sys, fd)
    const watching = watch(
      ours.fd,
      () => {
        const count = ours.drain()
        if (count === 0) return
        this.#arrived()
        this.#tell(type, vector, it, false)
        it.untold += count
        this.#untold++
        theirs.signal(count)
      },
      { ref: false },
    )
    const it: Vector = { ours, theirs, watching, untold: 0 }
    return it
  }

  #tell(type: IrqType, index: number, it: Vector, all: boolean): void {
    if (it.untold === 0 || (!all && isReadable(it.theirs.fd))) return
    this.#writer.put(Kind.irq, { index, id: irqTypes.indexOf(type), b: it.untold })
    it.untold = 0
    this.#untold = [...this.#armed.values()].flat().filter((vector) => (vector?.untold ?? 0) > 0).length
  }

  #release(type: IrqType): void {
    const vectors = this.#armed.get(type)
    if (vectors === undefined) return
    for (const [vector, it] of vectors.entries()) if (it !== undefined) this.#tell(type, vector, it, true)
    this.#armed.delete(type)
    close(vectors)
  }
}

function close(vectors: readonly (Vector | undefined)[]): void {
  for (const vector of vectors) {
    vector?.watching.close()
    vector?.ours.close()
  }
}

function isReadable(fd: number): boolean {
  const [events = 0] = sys.poll([{ fd, events: abi.POLLIN }], 0) ?? []
  return (events & abi.POLLIN) !== 0
}
