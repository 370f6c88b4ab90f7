import { type AccelError, isAccelError } from '@uaccel/uapi'
import type { AdminQueue } from './admin.js'
import { Admin, Feature, LogPage, PAGE_BYTES } from './command.js'
import { HEALTH_BYTES } from './identify.js'

/** What the controller reported by itself. */
export interface NvmeEvent {
  readonly type: 'error' | 'health' | 'notice' | 'other'
  /** Its code within the type (figures 146 to 149). */
  readonly info: number
  readonly logPage: number
}

/** Who is told of events. */
export interface EventListeners {
  event(event: NvmeEvent): void
  /** There are other namespaces than before. */
  namespacesChanged(): Promise<void>
  /** An event's log page could not be read. */
  broke(error: AccelError): void
}

/** Log pages that an event names, by the bytes that are read of each: reading them is what allows the next event (5.2). */
const EVENT_LOG_BYTES: Readonly<Record<number, number>> = {
  [LogPage.errors]: 64,
  [LogPage.health]: HEALTH_BYTES,
  [LogPage.changedNamespaces]: PAGE_BYTES,
}
const EVENT_TYPES = { 0: 'error', 1: 'health', 2: 'notice' } as const
/** CDW11 of feature Asynchronous Event Configuration (5.21.1.11): all health warnings; bit 8, changed namespaces. */
const HEALTH_WARNINGS = 0x1f
const NAMESPACE_NOTICES = 0x100

/** Asynchronous events (NVMe base 1.4, 5.2). One request is always with the controller; the next goes at a turn of the watchdog. */
export class Events {
  readonly #admin: AdminQueue
  readonly #listeners: EventListeners
  #wanted = false
  /** A request is with the controller. */
  #asked = false

  constructor(admin: AdminQueue, listeners: EventListeners) {
    this.#admin = admin
    this.#listeners = listeners
  }

  /** Has the controller tell, after it was brought up. */
  async configure(namespaceNotices: boolean): Promise<void> {
    await this.#admin.run({
      opcode: Admin.setFeatures,
      cdw10: Feature.asyncEvents,
      cdw11: HEALTH_WARNINGS | (namespaceNotices ? NAMESPACE_NOTICES : 0),
    })
    this.#request()
  }

  /** A turn of the watchdog: however many events there are, one in a turn. */
  turn(): void {
    if (this.#wanted) this.#request()
  }

  #request(): void {
    this.#wanted = false
    if (this.#asked) return
    this.#asked = true
    this.#admin.run({ opcode: Admin.asyncEventRequest }, { endless: true }).then(
      (result) => {
        this.#asked = false
        return this.#tell(result)
      },
      (error: unknown) => {
        this.#asked = false
        // A reset ended it, or there was no room for it.
        this.#wanted = isAccelError(error, 'ERR_ACCEL_AGAIN')
      },
    )
  }

  async #tell(result: number): Promise<void> {
    const type = EVENT_TYPES[(result & 7) as keyof typeof EVENT_TYPES] ?? 'other'
    const logPage = (result >>> 16) & 0xff
    try {
      const sizeBytes = EVENT_LOG_BYTES[logPage]
      if (sizeBytes !== undefined) await this.#admin.logPage(logPage, sizeBytes)
      if (logPage === LogPage.changedNamespaces) await this.#listeners.namespacesChanged()
      this.#wanted = true
      this.#listeners.event({ type, info: (result >>> 8) & 0xff, logPage })
    } catch (error) {
      this.#wanted = true
      if (isAccelError(error)) this.#listeners.broke(error)
      else throw error
    }
  }
}
