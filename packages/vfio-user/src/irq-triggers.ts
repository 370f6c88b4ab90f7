import { type IrqType, irqTypes } from '@uaccel/core'
import type { EmulatedFunction } from '@uaccel/model'
import { EventFd, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { exactSize, invalid } from './checks.js'
import { IrqSet, Size } from './protocol.js'

/** The eventfds that a client armed its vectors with. They are this object's until they are replaced. */
export class IrqTriggers {
  readonly #device: EmulatedFunction
  readonly #armed = new Map<IrqType, (EventFd | undefined)[]>()

  constructor(device: EmulatedFunction) {
    this.#device = device
  }

  /** Takes all vectors back: a reset leaves the error and the request interrupt armed. */
  close(): void {
    for (const type of [...this.#armed.keys()]) this.#disarm(type)
  }

  /** argsz, flags, index, start, count; then a byte a vector (DATA_BOOL), or descriptors (DATA_EVENTFD). */
  set(payload: Buffer, fds: readonly number[], kept: Set<number>): void {
    if (payload.length < Size.IRQ_SET) exactSize('DEVICE_SET_IRQS', payload, Size.IRQ_SET)
    const flags = payload.readUInt32LE(4)
    const type = irqType(payload.readUInt32LE(8))
    const start = payload.readUInt32LE(12)
    const count = payload.readUInt32LE(16)
    const available = this.#device.irqs[type].count
    if (start + count > available)
      throw invalid(`SET_IRQS of ${type} ${start}+${count}; there are ${available}.`)
    const data = flags & (IrqSet.DATA_NONE | IrqSet.DATA_BOOL | IrqSet.DATA_EVENTFD)
    const action = flags & (IrqSet.MASK | IrqSet.UNMASK | IrqSet.TRIGGER)
    if (flags !== (data | action)) throw invalid(`SET_IRQS with unknown flags ${flags}.`)
    if (data === IrqSet.DATA_BOOL && payload.length !== Size.IRQ_SET + count) {
      throw invalid(`SET_IRQS of ${count} vectors with ${payload.length - Size.IRQ_SET} bytes of data.`)
    }
    if (data === IrqSet.DATA_EVENTFD) {
      if (action !== IrqSet.TRIGGER) throw accelError('ERR_ACCEL_UNSUPPORTED', 'Eventfds for masking.')
      if (fds.length !== 0 && fds.length !== count)
        throw invalid(`${fds.length} eventfds for ${count} vectors.`)
      if (count === 0) throw invalid('SET_IRQS of no eventfds.')
      this.#arm(type, start, fds.length === 0 ? new Array<number>(count).fill(-1) : fds)
      for (const fd of fds) kept.add(fd)
      return
    }
    if (fds.length > 0) throw invalid('SET_IRQS with descriptors that its flags do not speak of.')
    const chosen = (vector: number) => data === IrqSet.DATA_NONE || payload[Size.IRQ_SET + vector] !== 0
    if (data !== IrqSet.DATA_NONE && data !== IrqSet.DATA_BOOL)
      throw invalid(`SET_IRQS with data flags ${data}.`)
    if (action === IrqSet.TRIGGER && data === IrqSet.DATA_NONE && count === 0) this.#disarm(type)
    else if (action === IrqSet.TRIGGER) {
      for (let i = 0; i < count; i++) if (chosen(i)) this.#trigger(type, start + i)
    } else if (action === IrqSet.MASK || action === IrqSet.UNMASK) {
      for (let i = 0; i < count; i++) {
        if (chosen(i)) this.#device.maskIrq(type, start + i, action === IrqSet.MASK)
      }
    } else throw invalid(`SET_IRQS with action flags ${action}.`)
  }

  #arm(type: IrqType, start: number, fds: readonly number[]): void {
    this.#device.setIrqs(type, start, fds)
    const armed = this.#armed.get(type) ?? []
    fds.forEach((fd, i) => {
      armed[start + i]?.close()
      armed[start + i] = fd < 0 ? undefined : new EventFd(sys, fd)
    })
    this.#armed.set(type, armed)
  }

  #disarm(type: IrqType): void {
    this.#device.setIrqs(type, 0, [])
    for (const event of this.#armed.get(type) ?? []) event?.close()
    this.#armed.delete(type)
  }

  #trigger(type: IrqType, vector: number): void {
    this.#armed.get(type)?.[vector]?.signal()
  }
}

/** The interrupt kind of an index in a message. */
export function irqType(index: number): IrqType {
  const type = irqTypes[index]
  if (!type) throw invalid(`Interrupt kind ${index}, which is not there.`)
  return type
}
