import { Window } from '@uaccel/sys'
import { BarWindow, MappedMmio, type Mmio } from './mmio.js'

/**
 * Memory of this process that is reached as a mapped BAR is, by the same code: for a driver that runs its loops before the first real operation, so
 * that V8 has seen what they do. No device sees it.
 */
export function scratchMmio(sizeBytes: number): Mmio {
  const memory = new ArrayBuffer(Math.ceil(sizeBytes / 8) * 8)
  const window = new Window(memory, 0, memory.byteLength)
  const area = { offset: 0, sizeBytes: memory.byteLength }
  return new MappedMmio(new BarWindow(0, area, 'scratch memory', { window, revoke() {} }), 0, sizeBytes)
}
