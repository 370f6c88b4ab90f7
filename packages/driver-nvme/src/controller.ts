import { type Bar, type Device, poll } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { COMMAND_BYTES, COMPLETION_BYTES } from './command.js'
import { maxEntries, type Pair } from './pair.js'
import { DOORBELL_BYTES, DOORBELLS_OFFSET, type NvmeRegisters } from './registers.js'

export type NvmeBar = Bar<typeof NvmeRegisters>

/** Unit of CAP.TO (NVMe base 1.4, 3.1.1). */
const READY_UNIT_MS = 500
/** Nothing says how long a shutdown takes where RTD3E is 0 (7.6.2). */
const SHUTDOWN_MS = 5_000
const ALL_ONES = 0xffff_ffff

/** A controller by its registers: on, off, failed, gone. */
export class Controller {
  /** Bytes from one doorbell to the next. */
  readonly doorbellStride: number
  /** Entries of the largest queue that is a power of two. */
  readonly maxEntries: number
  readonly #dev: Device
  readonly #bar: NvmeBar
  readonly #readyTimeoutMs: number

  /** Errors: `ERR_ACCEL_UNSUPPORTED` for what is no NVM controller with pages of 4 KiB. */
  constructor(dev: Device, bar: NvmeBar) {
    const cap = bar.CAP.get()
    if (bar.VS.read() === ALL_ONES) dev.checkPresent()
    if (!cap.nvmCommandSet || cap.minPageSize !== 0) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The controller was to have the NVM command set and pages of 4 KiB; CAP reads 0x${bar.CAP.read().toString(16)}`,
      )
    }
    this.#dev = dev
    this.#bar = bar
    this.#readyTimeoutMs = (cap.readyTimeout + 1) * READY_UNIT_MS
    this.doorbellStride = DOORBELL_BYTES << cap.doorbellStride
    this.maxEntries = maxEntries(cap.maxQueueEntries)
  }

  /** How many of `wanted` queue pairs BAR 0 has doorbells for. `ERR_ACCEL_UNSUPPORTED` where that is not even an I/O queue. */
  pairs(wanted: number): number {
    const room = Math.floor((this.#dev.regions[0].sizeBytes - DOORBELLS_OFFSET) / (2 * this.doorbellStride))
    if (room >= 2) return Math.min(wanted, room)
    throw accelError('ERR_ACCEL_UNSUPPORTED', `BAR 0 has doorbells for ${room} queue pairs, wanted 2`)
  }

  /** CSTS.CFS says that it failed. */
  get fatal(): boolean {
    return this.#bar.CSTS.get().fatal
  }

  /** Throws where it failed (`ERR_ACCEL_IO`) or is gone (`ERR_ACCEL_NO_DEVICE`). */
  check(when = ''): void {
    if (this.#bar.CSTS.extract(this.#status(), 'fatal'))
      throw accelError('ERR_ACCEL_IO', `The NVMe controller failed${when}: CSTS.CFS is set`)
  }

  /** Enables it with these admin queues (7.6.1). `ERR_ACCEL_TIMEOUT` where it does not get ready. */
  async enable({ submissions, completions, entries }: Pair): Promise<void> {
    const bar = this.#bar
    bar.AQA.write({ submissionEntries: entries - 1, completionEntries: entries - 1 })
    bar.ASQ.write(submissions.iova)
    bar.ACQ.write(completions.iova)
    bar.CC.write({
      enable: true,
      submissionEntryLog2: Math.log2(COMMAND_BYTES),
      completionEntryLog2: Math.log2(COMPLETION_BYTES),
    })
    await this.#waitReady(true)
  }

  /** Controller reset (7.3.2): it touches no memory any more. `ERR_ACCEL_TIMEOUT` where it does not end. */
  async disable(): Promise<void> {
    this.#bar.CC.write({})
    await this.#waitReady(false)
  }

  /** An orderly end of one that is enabled (7.6.2). */
  async shutDown(): Promise<void> {
    this.#bar.CC.update({ shutdown: 'normal' })
    await poll(
      () => this.#bar.CSTS.get().shutdown,
      (state) => state === 'complete',
      { timeoutMs: SHUTDOWN_MS, what: 'the shutdown of the NVMe controller' },
    )
  }

  #status(): number {
    const status = this.#bar.CSTS.read()
    if (status === ALL_ONES) this.#dev.checkPresent()
    return status
  }

  async #waitReady(wanted: boolean): Promise<void> {
    await poll(
      () => {
        if (wanted) this.check(' when it was enabled')
        return this.#bar.CSTS.extract(this.#status(), 'ready')
      },
      (ready) => ready === wanted,
      { timeoutMs: this.#readyTimeoutMs, what: `CSTS.RDY = ${Number(wanted)} of the NVMe controller` },
    )
  }
}
