import type { Job, JobRange, OpenContext } from '@uaccel/accel'
import { accelError, type Handle } from '@uaccel/uapi'
import type { VirtioCrypto } from './crypto.js'
import { CryptoOperation, type Stretch } from './operation.js'
import type { CryptoSession } from './session.js'
import { cryptoOperation } from './uapi.js'

/** Sessions that one open may hold: QEMU's builtin backend has 256 for all (MAX_NUM_SESSIONS in backends/cryptodev-builtin.c). */
const MAX_SESSIONS = 64

/** The sessions of each open, by handle, and the jobs that use them. */
export class OpenSessions {
  readonly #crypto: VirtioCrypto
  readonly #opens = new Map<OpenContext, { readonly sessions: Map<number, CryptoSession>; last: number }>()

  constructor(crypto: VirtioCrypto) {
    this.#crypto = crypto
  }

  /** Keeps what `create` makes for an open, until it is destroyed or the open goes. `ERR_ACCEL_AGAIN` where the open has too many. */
  async add(
    open: OpenContext,
    create: () => Promise<CryptoSession>,
  ): Promise<{ session: Handle<'session'> }> {
    let mine = this.#opens.get(open)
    if (mine === undefined) {
      mine = { sessions: new Map(), last: 0 }
      this.#opens.set(open, mine)
      open.defer(() => this.#close(open))
    }
    if (mine.sessions.size >= MAX_SESSIONS)
      throw accelError('ERR_ACCEL_AGAIN', `This open has ${MAX_SESSIONS} sessions: destroy one first`)
    const session = await create()
    if (this.#opens.get(open) !== mine) {
      await this.#crypto.destroy(session)
      throw accelError('ERR_ACCEL_CLOSED', 'The open went while its session was made')
    }
    const handle = ++mine.last as Handle<'session'>
    mine.sessions.set(handle, session)
    return { session: handle }
  }

  /** `ERR_ACCEL_NOT_FOUND` for a handle that this open does not have. */
  get(open: OpenContext, handle: number): CryptoSession {
    const session = this.#opens.get(open)?.sessions.get(handle)
    if (session !== undefined) return session
    throw accelError('ERR_ACCEL_NOT_FOUND', `Open ${open.id} has no crypto session of handle ${handle}`)
  }

  async destroy(open: OpenContext, handle: number): Promise<void> {
    const session = this.get(open, handle)
    this.#opens.get(open)!.sessions.delete(handle)
    await this.#crypto.destroy(session)
  }

  /** Settles when the device is done with the memory of the job. Errors: those of the codec and of `CryptoOperation` for a bad payload. */
  async run(job: Job, open: OpenContext): Promise<void> {
    const maxRequestBytes = Number(this.#crypto.capabilities.maxRequestBytes)
    const operations = decode(job.payload).map(
      ({ session, iv, source, destination }) =>
        new CryptoOperation(
          forJobs(this.get(open, session)),
          source.map((part) => stretch(job.ranges, part, 'read')),
          destination.map((part) => stretch(job.ranges, part, 'write')),
          iv,
          maxRequestBytes,
        ),
    )
    await this.#crypto.run(operations)
  }

  async #close(open: OpenContext): Promise<void> {
    const mine = this.#opens.get(open)
    this.#opens.delete(open)
    const failures: unknown[] = []
    // One that the device does not give back keeps none of the others, nor their keys.
    for (const session of mine?.sessions.values() ?? [])
      await this.#crypto.destroy(session).catch((error) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }
}

/** The result of RSA has a length, which a job has no place for. */
function forJobs(session: CryptoSession): CryptoSession {
  if (session.kind.service !== 'asymmetric') return session
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    'Jobs take sessions of ciphers, hashes and MACs; for RSA there are commands',
  )
}

type Decoded = ReturnType<typeof cryptoOperation.decode>

function decode(payload: Uint8Array): Decoded[] {
  const { sizeBytes } = cryptoOperation.layout
  const count = payload.length / sizeBytes
  if (count === 0 || !Number.isInteger(count)) {
    throw accelError(
      'ERR_ACCEL_BAD_SIZE',
      `The payload of a crypto job wants operations of ${sizeBytes} bytes each, found ${payload.length} bytes`,
    )
  }
  return Array.from({ length: count }, (_, i) =>
    cryptoOperation.decode(payload.subarray(i * sizeBytes, (i + 1) * sizeBytes)),
  )
}

/** Where a part of a job's buffers is. What the client says is checked against what the job may touch. */
function stretch(
  ranges: readonly JobRange[],
  { buffer, offset, sizeBytes }: Decoded['source'][number],
  access: 'read' | 'write',
): Stretch {
  const range = ranges[buffer - 1]
  if (range === undefined) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `A crypto operation names buffer ${buffer} of the ${ranges.length} of its job, counted from 1`,
    )
  }
  if (offset + BigInt(sizeBytes) > BigInt(range.sizeBytes)) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `A crypto operation names ${sizeBytes} bytes from ${offset} on of a range of ${range.sizeBytes}`,
    )
  }
  if (range.access !== 'readwrite' && range.access !== access) {
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `A crypto operation is to ${access} buffer ${buffer}, which its job gives for access ${range.access}`,
    )
  }
  return { iova: range.iova + offset, sizeBytes }
}
