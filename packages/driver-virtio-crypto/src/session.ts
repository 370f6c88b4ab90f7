import { dataOpcode, type Service } from './protocol.js'

/** What a session is for. */
export interface SessionKind {
  readonly service: Service
  /** Number of the algorithm within its service. */
  readonly algorithm: number
  /** Number of what its operations do, within its service. */
  readonly operation: number
  /** Data is a multiple of it. */
  readonly blockBytes: number
  readonly ivBytes: number
  /** Of a digest; the most of RSA, its modulus. A cipher answers as much as it gets. */
  readonly resultBytes: number
  /** Of what a session of RSA signs or verifies. */
  readonly digestBytes?: number
}

/** A session of the device. */
export class CryptoSession {
  readonly kind: SessionKind
  /** Of its operations. */
  readonly opcode: number
  /** What asks the device for it, key and all: after a reset it is asked again. Zeros once the session was given back. */
  readonly creation: Uint8Array
  /** What the device calls it, in halves, since the last time that it was made. */
  idLow = 0
  idHigh = 0
  /** The device knows it by that number. */
  live = false
  /** Operations that name it and have not ended. */
  operations = 0
  /** It takes no more of them. */
  closed = false
  /** Told, where somebody waits for it, when `operations` is 0 again. */
  idle: (() => void) | undefined

  constructor(kind: SessionKind, creation: Uint8Array) {
    this.kind = kind
    this.opcode = dataOpcode(kind.service, kind.operation)
    this.creation = creation
  }

  /** An operation that named it has ended. */
  left(): void {
    if (--this.operations === 0) this.idle?.()
  }
}
