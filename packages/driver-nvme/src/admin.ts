import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'
import {
  Admin,
  type AdminCommand,
  ALL_NAMESPACES,
  Cns,
  COMMAND_WORDS,
  LogPage,
  PAGE_BYTES,
} from './command.js'
import {
  type ControllerIdentity,
  decodeController,
  decodeHealth,
  decodeNamespace,
  decodeNamespaceList,
  HEALTH_BYTES,
  type Health,
  type NamespaceIdentity,
} from './identify.js'
import type { CommandListener, NvmeQueue } from './queue.js'
import { statusError } from './status.js'

/** Far more than controllers have; a list could go on to 2^32. */
const MOST_NAMESPACES = 65_536

/** What the admin queue needs of its controller. */
export interface AdminHost {
  /** Throws where nothing is to be submitted. */
  checkUp(): void
  /** Rings, and sees that completions are noticed. */
  kick(queue: NvmeQueue): void
}

/** How a command is run. */
export interface AdminOptions {
  /** Memory that PRP1 names: a page, or a queue's. */
  readonly data?: DmaRegion
  /** 2 where PRP2 names the page behind `data`. Default 1. */
  readonly pages?: 1 | 2
  /** It ends when something happens, and not before: no limit counts for it. Default false. */
  readonly endless?: boolean
}

/** Admin commands (NVMe base 1.4, section 5), one promise each. Errors: those of a status, of a reset, `ERR_ACCEL_AGAIN` where too many are under way. */
export class AdminQueue {
  readonly queue: NvmeQueue
  readonly #dma: DmaDomain
  readonly #host: AdminHost

  constructor(queue: NvmeQueue, dma: DmaDomain, host: AdminHost) {
    this.queue = queue
    this.#dma = dma
    this.#host = host
  }

  /** Runs a command. Answers DW0 of its completion. */
  run(command: AdminCommand, { data, pages = 1, endless = false }: AdminOptions = {}): Promise<number> {
    const { opcode, nsid = 0, cdw10 = 0, cdw11 = 0, cdw12 = 0, cdw13 = 0, cdw14 = 0, cdw15 = 0 } = command
    const words = new Int32Array(COMMAND_WORDS)
    words.set([opcode, nsid])
    words.set([data?.iovaLow ?? 0, data?.iovaHigh ?? 0], 6)
    if (data !== undefined && pages === 2) {
      const second = data.iova + BigInt(PAGE_BYTES)
      words.set([Number(second & 0xffff_ffffn), Number(second >> 32n)], 8)
    }
    words.set([cdw10, cdw11, cdw12, cdw13, cdw14, cdw15], 10)
    return new Promise((resolve, reject) => {
      this.#host.checkUp()
      const listener: CommandListener = {
        completed: (_, status, result) => {
          if (status === 0) resolve(result >>> 0)
          else reject(statusError(`admin command 0x${opcode.toString(16)}`, status))
        },
        failed: (_, error) => reject(error),
      }
      if (this.queue.submitWords(words, listener, { endless }) < 0) {
        throw accelError(
          'ERR_ACCEL_AGAIN',
          `${this.queue.inFlight} admin commands are under way: wait for one`,
        )
      }
      this.#host.kick(this.queue)
    })
  }

  /** Runs a command with up to a page of data from the device. */
  read(command: AdminCommand, sizeBytes: number): Promise<{ result: number; data: Uint8Array }> {
    return this.#withPage(sizeBytes, async (page) => {
      const result = await this.run(command, { data: page })
      return { result, data: page.u8.slice(0, sizeBytes) }
    })
  }

  /** Runs a command with up to a page of data for the device. */
  write(command: AdminCommand, data: Uint8Array): Promise<number> {
    return this.#withPage(data.length, (page) => {
      page.u8.set(data)
      return this.run(command, { data: page })
    })
  }

  /** Reads the first bytes of a log page, a multiple of 4, at most a page. */
  async logPage(page: number, sizeBytes: number): Promise<Uint8Array> {
    const cdw10 = page | ((sizeBytes / 4 - 1) << 16)
    return (await this.read({ opcode: Admin.getLogPage, nsid: ALL_NAMESPACES, cdw10 }, sizeBytes)).data
  }

  /** Reads the health log page of the controller. */
  async health(): Promise<Health> {
    return decodeHealth(await this.logPage(LogPage.health, HEALTH_BYTES))
  }

  /** What the controller says of itself. */
  async controller(): Promise<ControllerIdentity> {
    return decodeController(await this.#identify(Cns.controller, 0))
  }

  /** The active namespaces. `ERR_ACCEL_IO` for a list that does not end. */
  async namespaces(): Promise<NamespaceIdentity[]> {
    const found: NamespaceIdentity[] = []
    for (let after = 0; ; ) {
      const list = decodeNamespaceList(await this.#identify(Cns.activeNamespaces, after), after)
      if (found.length + list.length > MOST_NAMESPACES)
        throw accelError('ERR_ACCEL_IO', `The controller names more than ${MOST_NAMESPACES} namespaces`)
      for (const nsid of list) found.push(decodeNamespace(nsid, await this.#identify(Cns.namespace, nsid)))
      if (list.length < PAGE_BYTES / 4) return found
      after = list.at(-1)!
    }
  }

  async #identify(cns: number, nsid: number): Promise<Uint8Array> {
    return (await this.read({ opcode: Admin.identify, nsid, cdw10: cns }, PAGE_BYTES)).data
  }

  async #withPage<T>(sizeBytes: number, work: (page: DmaRegion) => Promise<T>): Promise<T> {
    if (!(sizeBytes >= 0 && sizeBytes <= PAGE_BYTES)) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `An admin command moves ${sizeBytes} bytes, wanted at most ${PAGE_BYTES}`,
      )
    }
    // All of a page, so that a device that writes more than was asked for hits nothing else.
    const page = this.#dma.alloc(PAGE_BYTES, { alignBytes: PAGE_BYTES, name: 'NVMe admin data' })
    try {
      const answer = await work(page)
      page.free()
      return answer
    } catch (error) {
      if (!isAccelError(error) || error.details?.idle !== false) page.free() // else the device may still write there
      throw error
    }
  }
}
