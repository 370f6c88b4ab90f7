import { type IrqInfo, type IrqType, irqTypes, type Transport } from '@uaccel/core'
import { EventFd, type Watch, watch } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import type { Connection } from './connection.js'
import { enableInterrupts } from './interrupt-enable.js'
import { Command, IrqSet, Size } from './protocol.js'
import { RisingLine } from './rising-line.js'

/** The interrupts of a server's device: arms and masks them, and does what the kernel does beside that for a device of its own. */
export class ClientInterrupts {
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly #connection: Connection
  readonly #armed = new Set<IrqType>()
  /** INTx of a server that does not mask it when it fires: it is kept as if it did. */
  readonly #line: RisingLine | undefined
  /** What the server tells of the device, besides the interrupts that its driver asks for. */
  readonly #notices: { readonly event: EventFd; readonly watching: Watch }[] = []

  constructor(connection: Connection, irqs: Readonly<Record<IrqType, IrqInfo>>) {
    this.#connection = connection
    const { intx } = irqs
    this.#line = intx.count > 0 && !intx.autoMasked ? new RisingLine() : undefined
    this.irqs = this.#line ? { ...irqs, intx: { ...intx, autoMasked: true } } : irqs
  }

  /** What becomes readable when the server fires an interrupt of the transport's own. */
  get noticeFds(): number[] {
    return this.#notices.map(({ event }) => event.fd)
  }

  /** Has `handler` called when the server fires an interrupt of the transport's own. One that has it and refuses to arm it does not fire it either. */
  notify(type: 'err' | 'req', handler: () => void): void {
    if (this.irqs[type].count === 0) return
    const event = new EventFd()
    const fired = () => {
      if (event.drain() > 0 && !this.#connection.lost) handler()
    }
    try {
      this.#set(type, IrqSet.DATA_EVENTFD | IrqSet.TRIGGER, 0, 1, [event.fd])
      this.#notices.push({ event, watching: watch(event.fd, fired, { ref: false }) })
    } catch (error) {
      event.close()
      if (!isAccelError(error, 'ERR_ACCEL_IO')) throw error
    }
  }

  /**
   * Disarms the device's own interrupts, none of which is armed yet. libvfio-user of before June 2023, which QEMU's server has, keeps the
   * eventfds of ERR and REQ where that of vector 0 is, and would signal them for it: this has it forget. To other servers it says nothing new.
   */
  disarmAll(): void {
    const type = irqTypes.find((type) => this.irqs[type].count > 0)
    if (type !== undefined && type !== 'err' && type !== 'req')
      this.#try(type, IrqSet.DATA_NONE | IrqSet.TRIGGER, 0)
  }

  /** As `Transport.setIrqs`. */
  arm(device: Transport, type: IrqType, fds: readonly number[]): void {
    const { address } = device.identity
    if (type === 'err' || type === 'req') {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${type} of ${address} is the transport's own: listen with onLost() or onRequest().`,
      )
    }
    const { count } = this.irqs[type]
    if (fds.length > count) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${fds.length} ${type} vectors wanted; the device has ${count}.`,
        { details: { available: count } },
      )
    }
    const perMessage = this.#connection.peer.maxMessageFds
    // A message has a descriptor for each vector it names: those without a trigger are left out, run by run.
    for (let start = 0; start < fds.length; ) {
      if (fds[start] === -1) {
        start++
        continue
      }
      let end = start
      while (end < fds.length && fds[end] !== -1 && end - start < perMessage) end++
      this.#set(type, IrqSet.DATA_EVENTFD | IrqSet.TRIGGER, start, end - start, fds.slice(start, end))
      this.#armed.add(type)
      start = end
    }
    const [first = -1] = fds
    if (type === 'intx' && first >= 0) this.#line?.arm(first)
    enableInterrupts(device, type, fds.length)
    // The kernel unmasks the MSI-X vectors that it arms. QEMU's server leaves them masked; others know no masking and refuse.
    if (type === 'msix') this.#try(type, IrqSet.DATA_NONE | IrqSet.UNMASK, fds.length)
  }

  /** As `Transport.disableIrqs`. */
  disarm(device: Transport, type: IrqType): void {
    // libvfio-user refuses to disable a kind that the device lacks
    if (!this.#armed.has(type)) return
    this.#set(type, IrqSet.DATA_NONE | IrqSet.TRIGGER, 0, 0)
    this.#armed.delete(type)
    if (type === 'intx') this.#line?.disarm()
    enableInterrupts(device, type, 0)
  }

  /** Before a reset, which takes the triggers away. */
  disarmArmed(device: Transport): void {
    for (const type of [...this.#armed]) this.disarm(device, type)
  }

  /** As `Transport.triggerIrq`. What a server does that offers no loopback is its own affair: an error, or nothing. */
  trigger(device: Transport, type: IrqType, vector: number): void {
    if (!this.#armed.has(type) || !(vector >= 0 && vector < this.irqs[type].count)) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${type} vector ${vector} of ${device.identity.address} was to be fired, and is not armed.`,
      )
    }
    this.#set(type, IrqSet.DATA_NONE | IrqSet.TRIGGER, vector, 1)
  }

  mask(type: IrqType, vector: number): void {
    this.#set(type, IrqSet.DATA_NONE | IrqSet.MASK, vector, 1)
  }

  unmask(device: Transport, type: IrqType, vector: number): void {
    const line = type === 'intx' ? this.#line : undefined
    if (line === undefined || this.irqs.intx.maskable)
      this.#set(type, IrqSet.DATA_NONE | IrqSet.UNMASK, vector, 1)
    try {
      line?.handled(device)
    } catch (error) {
      if (!isAccelError(error) || this.#connection.lost) throw error
      // The line may be up and would never be heard of again; this is asked after a handler, where nobody could do anything about it.
      this.#connection.lose(error)
    }
  }

  close(): void {
    this.#line?.disarm()
    for (const { event, watching } of this.#notices.splice(0)) {
      watching.close()
      event.close()
    }
  }

  #try(type: IrqType, flags: number, count: number): void {
    try {
      this.#set(type, flags, 0, count)
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_IO')) throw error
    }
  }

  #set(type: IrqType, flags: number, start: number, count: number, fds: readonly number[] = []): void {
    const request = Buffer.alloc(Size.IRQ_SET)
    request.writeUInt32LE(Size.IRQ_SET, 0)
    request.writeUInt32LE(flags, 4)
    request.writeUInt32LE(irqTypes.indexOf(type), 8)
    request.writeUInt32LE(start, 12)
    request.writeUInt32LE(count, 16)
    this.#connection.request(Command.DEVICE_SET_IRQS, request, fds)
  }
}
