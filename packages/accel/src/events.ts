import { type commonUapi, type ErrorCode, EVENTS_AT_ONCE, errorTable } from '@uaccel/uapi'
import { Bell } from './bell.js'
import { fit } from './text.js'

type EventsAnswer = Parameters<(typeof commonUapi)['commands']['events']['out']['encode']>[0]
type EventEntry = EventsAnswer['events'][number]

/** Something that happened to a device, for all who have it open. */
export interface DeviceEvent {
  readonly kind: EventEntry['kind']
  /** For people: what happened. Cut to 160 bytes. */
  readonly reason: string
  readonly error?: ErrorCode
  /** The open concerned, by its id. */
  readonly open?: number
}

/** Bytes of the reason of an event. */
const REASON_BYTES = 160
/** Events that a node remembers. */
export const EVENT_HISTORY = 256

/** The events of a node: numbered from 1 on, the latest of them kept. */
export class EventLog {
  readonly bell = new Bell()
  readonly #capacity: number
  readonly #kept: EventEntry[] = []
  #last = 0

  constructor(capacity = EVENT_HISTORY) {
    this.#capacity = capacity
  }

  /** Number of the latest event; 0 where there was none. */
  get last(): number {
    return this.#last
  }

  /** How many are not kept any more. */
  get overwritten(): number {
    return Math.max(0, this.#last - this.#capacity)
  }

  publish({ kind, reason, error, open = 0 }: DeviceEvent): void {
    const sequence = ++this.#last
    this.#kept[sequence % this.#capacity] = {
      sequence: BigInt(sequence),
      atNs: nowNs(),
      kind,
      error: error === undefined ? 0 : errorTable[error].number,
      open,
      reason: fit(reason, REASON_BYTES),
    }
    this.bell.ring()
  }

  /** What came after event `after`, oldest first, as far as it is kept and one answer has room. */
  read(after: number): EventsAnswer {
    const oldest = this.overwritten + 1
    const first = Math.max(after + 1, oldest)
    const count = Math.min(EVENTS_AT_ONCE, this.#last - first + 1)
    const events = Array.from(
      { length: Math.max(0, count) },
      (_, i) => this.#kept[(first + i) % this.#capacity]!,
    )
    return { last: BigInt(first - 1 + events.length), lost: BigInt(first - 1 - after), events }
  }
}

/** Now, as CLOCK_REALTIME counts, in nanoseconds. */
export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}
