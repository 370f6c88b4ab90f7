import type { AccelError } from '@uaccel/uapi'
import { accelError } from '@uaccel/uapi'

/** What the faults act on: the function that they were given to. */
export interface FaultTarget {
  fire(vector: number): void
  allOnes(): void
  resume(): void
  vanish(reason: AccelError): void
  request(reason: AccelError): void
  error(reason: AccelError): void
}

/** Misfortunes of a device, to be switched on while it runs. One object serves one function. */
export class Faults {
  #target: FaultTarget | undefined
  #lostInterrupts = 0
  #dmaErrors = 0
  #allOnes = false
  #hanging = false

  /** The next `count` interrupts do not arrive. */
  lostInterrupt(count = 1): void {
    this.#lostInterrupts = count
  }

  /** An interrupt that the device has no reason for, on the kind that is armed. */
  spuriousInterrupt(vector = 0): void {
    this.#target?.fire(vector)
  }

  /**
   * Surprise removal as the bus shows it: reads answer all ones and writes are dropped, in config space too; memory
   * of the device is overwritten with ones, for those who have it mapped.
   */
  allOnes(on = true): void {
    this.#allOnes = on
    if (on) this.#target?.allOnes()
  }

  /** The next `count` transfers of the device fail with `ERR_ACCEL_DMA_FAULT`. No violation is kept: the driver is not to blame. */
  dmaError(count = 1): void {
    this.#dmaErrors = count
  }

  /** The device stops working on anything but register accesses. What waited goes on when the hang is taken back; a reset discards it. */
  hang(on = true): void {
    this.#hanging = on
    if (!on) this.#target?.resume()
  }

  /** The device is gone for good, and its transport says so. */
  vanish(reason = 'the model was told to vanish'): void {
    this.#target?.vanish(accelError('ERR_ACCEL_NO_DEVICE', `The device is gone: ${reason}.`))
  }

  /**
   * The administrator wants the device back, as an unbind from vfio-pci says it: the request interrupt fires, and listeners in this
   * process are told. With neither the device vanishes.
   */
  request(reason = 'the model was told to ask for it'): void {
    this.#target?.request(accelError('ERR_ACCEL_NO_DEVICE', `The device is wanted back: ${reason}.`))
  }

  /** An uncorrectable PCI Express error: the error interrupt fires; where it is not armed, the device vanishes with that reason. */
  error(reason = 'the model was told to report it'): void {
    this.#target?.error(
      accelError('ERR_ACCEL_IO', `The device reported an uncorrectable PCI Express error: ${reason}.`),
    )
  }

  get isAllOnes(): boolean {
    return this.#allOnes
  }

  get isHanging(): boolean {
    return this.#hanging
  }

  /** True once for each interrupt that is to be lost. */
  takeLostInterrupt(): boolean {
    return this.#lostInterrupts > 0 && this.#lostInterrupts-- > 0
  }

  /** True once for each transfer that is to fail. */
  takeDmaError(): boolean {
    return this.#dmaErrors > 0 && this.#dmaErrors-- > 0
  }

  /** For the function that suffers them. */
  attach(target: FaultTarget): void {
    if (this.#target !== undefined) {
      throw accelError('ERR_ACCEL_BUSY', 'These faults belong to another function. Make new ones for each.')
    }
    this.#target = target
  }
}
