import { dataOpcode, type Service } from './protocol.js'

/** What a session is for. */
export interface SessionKind {
  readonly service: Service
  /** Number of the algorithm within its service. */
  readonly algorithm: number
  readonly decrypt: boolean
  /** Data is a multiple of it. */
  readonly blockBytes: number
  readonly ivBytes: number
  /** Of a digest; a cipher answers as much as it gets. */
  readonly resultBytes: number
}

/** A session of the device. */
export class CryptoSession {
  readonly kind: SessionKind
  /** Of its operations. */
  readonly opcode: number
  /** What the device calls it, in halves. */
  readonly idLow: number
  readonly idHigh: number
  /** Operations that name it and have not ended. */
  operations = 0
  /** It takes no more of them. */
  closed = false
  /** Told, where somebody waits for it, when `operations` is 0 again. */
  idle: (() => void) | undefined

  constructor(kind: SessionKind, idLow: number, idHigh: number) {
    this.kind = kind
    this.opcode = dataOpcode(kind.service, kind.decrypt)
    this.idLow = idLow
    this.idHigh = idHigh
  }

  /** An operation that named it has ended. */
  left(): void {
    if (--this.operations === 0) this.idle?.()
  }
}
