import type { DeviceShare, EventLine, IrqVectors } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { aligned } from './buffers.js'
import type { LeaseParts, NpuContextToken } from './lease.js'
import type { QueueControl } from './queue-control.js'
import { BAR, DOORBELL_PAGE_BYTES, NpuRegisters } from './registers.js'
import type { ContextStore } from './store.js'

const PAGE_BYTES = 4096

/**
 * Shares what a worker needs to use a queue by itself. `ERR_ACCEL_UNSUPPORTED` where the doorbells or the card are not mapped.
 *
 * @param interrupts The queue's own vector, which fires in the worker; true where this thread has to pass interrupts on; false
 *   for none.
 */
export function lend(
  share: DeviceShare,
  control: QueueControl,
  store: ContextStore,
  memoryBytes: number,
  interrupts: { readonly irqs: IrqVectors; readonly vector: number } | boolean,
): LeaseParts {
  const { index, entriesLog2 } = control
  const doorbells = share.bar(BAR.doorbells, {
    offset: DOORBELL_PAGE_BYTES * index,
    sizeBytes: DOORBELL_PAGE_BYTES,
  })
  const { card } = store
  const cardBar = card && share.bar(BAR.card, { offset: card.offset, sizeBytes: card.sizeBytes })
  let irq: NpuContextToken['irq']
  let line: EventLine | undefined
  if (interrupts === true) ({ token: irq, line } = share.event())
  else if (interrupts !== false) irq = share.vector(interrupts.irqs, interrupts.vector)
  const token: NpuContextToken = {
    kind: 'npu-context',
    device: share.token,
    index,
    entriesLog2,
    doorbells,
    rings: share.memory(control.memory),
    memory: share.memory(store.take(aligned(memoryBytes))),
    wake: shareWake(share, control),
    irq,
    card: card && cardBar && { bar: cardBar, base: card.base },
    heartbeat: new Int32Array(new SharedArrayBuffer(4)),
  }
  return { control, store, share, token, line }
}

/** A worker writes WAKE itself where the registers are mapped; else it rings, and this thread writes. */
function shareWake(share: DeviceShare, control: QueueControl): NpuContextToken['wake'] {
  const { offset } = NpuRegisters.find(`QUEUE[${control.index}].WAKE`)!
  const page = Math.floor(offset / PAGE_BYTES) * PAGE_BYTES
  try {
    return share.bar(BAR.registers, { offset: page, sizeBytes: PAGE_BYTES })
  } catch (error) {
    if (!isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
  }
  const { token, line } = share.event()
  void line.handle(() => {
    try {
      if (!control.off) control.wake()
    } catch (error) {
      // The jobs end with that, by way of whoever makes the device unreachable.
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
  })
  return token
}
