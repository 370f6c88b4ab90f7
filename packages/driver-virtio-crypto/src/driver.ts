import { accelDriver, Completion } from '@uaccel/accel'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { rsaUses } from './algorithms.js'
import { VirtioCrypto, type VirtioCryptoOptions } from './crypto.js'
import { OpenSessions } from './jobs.js'
import { CryptoOperation } from './operation.js'
import { KEY_REJECTED } from './protocol.js'
import type { CryptoSession, SessionKind } from './session.js'
import { MAX_DIGEST_BYTES, MAX_INLINE_BYTES, virtioCryptoUapi } from './uapi.js'

export type { CryptoCapabilities } from './capabilities.js'
export { type IrqMode, VirtioCrypto, type VirtioCryptoOptions } from './crypto.js'
export type { CryptoDone } from './data-queue.js'
export { CryptoOperation, type Stretch } from './operation.js'
export type { CryptoSession } from './session.js'

const NO_IV: Uint8Array = new Uint8Array()
const isRsa = ({ service, operation }: SessionKind, verifies: boolean) =>
  service === 'asymmetric' && (operation === rsaUses.verify.number) === verifies
/** Jobs at once: each is a few operations of a queue of 256. */
const JOBS = 16

export interface VirtioCryptoDriverOptions extends VirtioCryptoOptions {
  /** Gets the device each time that it was brought up: at probe, and anew after a reset by the subsystem that probed again. */
  readonly onReady?: (crypto: VirtioCrypto) => void
}

/** Driver of virtio's crypto device (virtio 1.2, 5.9). */
export function virtioCryptoDriver({ onReady, ...options }: VirtioCryptoDriverOptions = {}) {
  return accelDriver({
    name: 'virtio-crypto',
    uapi: virtioCryptoUapi,
    ids: [{ bus: 'pci', vendor: 0x1af4, device: 0x1054 }], // 0x1040 and the type, 20 (4.1.2.1)

    async probe(dev) {
      const crypto = await VirtioCrypto.start(dev, options, (error) =>
        dev.publish({
          kind: error.code === 'ERR_ACCEL_TIMEOUT' ? 'timeout' : 'error',
          reason: error.message,
          error: error.code,
        }),
      )
      const { capabilities: has } = crypto
      const sessions = new OpenSessions(crypto)
      const input = dev.dma.alloc(MAX_INLINE_BYTES, { name: 'crypto command input' })
      const output = dev.dma.alloc(MAX_INLINE_BYTES, { name: 'crypto command output' })
      onReady?.(crypto)

      /** For commands, which run one at a time. Where the device does not end it, `recover` comes before the next. */
      async function run(
        session: CryptoSession,
        data: readonly Uint8Array[],
        resultBytes: number,
        iv: Uint8Array,
        signal: AbortSignal,
      ) {
        const whole = Buffer.concat(data)
        let at = 0n
        const from = data.map(({ length }) => {
          const part = { iova: input.iova + at, sizeBytes: length }
          at += BigInt(length)
          return part
        })
        const to = resultBytes === 0 ? [] : [{ iova: output.iova, sizeBytes: resultBytes }]
        const operation = new CryptoOperation(session, from, to, iv, Number(has.maxRequestBytes))
        // Also what the device has not written is not what was of another open.
        output.u8.fill(0)
        input.u8.set(whole)
        const ended = new Completion('the crypto operation')
        let failure: AccelError | undefined
        let written = 0
        try {
          crypto.submit(operation, (error, bytes) => {
            failure = error
            written = bytes
            ended.complete()
          })
          crypto.flush()
          await ended.wait({ signal })
          if (failure !== undefined) throw failure
          const { service } = session.kind
          return output.u8.slice(0, service === 'asymmetric' ? Math.min(written, resultBytes) : resultBytes)
        } finally {
          whole.fill(0)
          input.u8.fill(0)
          output.u8.fill(0)
        }
      }
      /** A session of this open for what a command does. */
      function require(session: CryptoSession, wanted: (kind: SessionKind) => boolean, what: string) {
        if (wanted(session.kind)) return session
        throw accelError(
          'ERR_ACCEL_INVALID_ARGUMENT',
          `wanted a session of ${what}, found one of service ${session.kind.service}, operation ${session.kind.operation}`,
        )
      }
      function named<N extends string>(name: N, what: string): Exclude<N, 'none'> {
        if (name !== 'none') return name as Exclude<N, 'none'>
        throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `a session wants a ${what}, found none`)
      }

      return {
        telemetry: {
          name: 'virtio-crypto',
          health() {
            const reason = crypto.broken
            return reason === undefined ? { state: 'operational' } : { state: 'needsReset', reason }
          },
          limits: () => [
            { name: 'dataQueues', value: has.dataQueues },
            { name: 'cipherKeyBytes', value: has.maxCipherKeyBytes, unit: 'bytes' },
            { name: 'macKeyBytes', value: has.maxMacKeyBytes, unit: 'bytes' },
          ],
        },
        attributes: {
          ready: { show: () => crypto.ready, type: 'boolean' },
          features: { show: () => `0x${crypto.features.toString(16)}` },
          irqMode: { show: () => crypto.irqMode },
          'sessions/inUse': { show: () => crypto.sessions, type: 'integer' },
          resets: { show: () => crypto.resets, type: 'integer' },
        },
        commands: {
          identify: () => ({ ...has, ready: crypto.ready, features: crypto.features }),
          createCipherSession: ({ algorithm, direction, key }, { open }) =>
            sessions.add(open, () => crypto.createCipher(named(algorithm, 'cipher'), direction, key)),
          createHashSession: ({ algorithm }, { open }) =>
            sessions.add(open, () => crypto.createHash(named(algorithm, 'hash'))),
          createMacSession: ({ algorithm, key }, { open }) =>
            sessions.add(open, () => crypto.createMac(named(algorithm, 'MAC'), key)),
          destroySession: ({ session }, { open }) => sessions.destroy(open, session),
          async cipher({ session, iv, data }, { open, signal }) {
            const found = require(sessions.get(open, session), ({ service }) =>
              service === 'cipher', 'a cipher')
            return { data: await run(found, [data], data.length, iv, signal) }
          },
          async digest({ session, data }, { open, signal }) {
            const digests = ({ service }: SessionKind) => service === 'hash' || service === 'mac'
            const found = require(sessions.get(open, session), digests, 'a hash or MAC')
            const bytes = Math.min(found.kind.resultBytes, MAX_DIGEST_BYTES)
            return { digest: await run(found, [data], bytes, NO_IV, signal) }
          },
          async createRsaSession({ use, hash, key }, { open }) {
            let modulusBytes = 0
            const { session } = await sessions.add(open, async () => {
              const made = await crypto.createRsa(use, named(hash, 'hash'), key)
              modulusBytes = made.kind.resultBytes
              return made
            })
            return { session, modulusBytes }
          },
          async rsa({ session, data }, { open, signal }) {
            const found = require(sessions.get(open, session), (kind) =>
              isRsa(kind, false), 'RSA that has a result')
            const { operation, resultBytes } = found.kind
            const result = await run(found, [data], resultBytes, NO_IV, signal)
            if (operation === rsaUses.decrypt.number) return { data: result }
            // As long as the modulus (RFC 8017, 4.1); a device may leave out zeros in front.
            if (result.length < resultBytes && result[0] === 0) {
              throw accelError(
                'ERR_ACCEL_IO',
                `The device was to answer ${resultBytes} bytes of RSA, and left out the last of them: another padding, or other data, may do`,
              )
            }
            const whole = new Uint8Array(resultBytes)
            whole.set(result, resultBytes - result.length)
            return { data: whole }
          },
          async rsaVerify({ session, signature, digest }, { open, signal }) {
            const found = require(sessions.get(open, session), (kind) =>
              isRsa(kind, true), 'RSA that verifies')
            try {
              await run(found, [signature, digest], 0, NO_IV, signal)
              return { valid: true }
            } catch (error) {
              if (isAccelError(error) && error.details?.status === KEY_REJECTED) return { valid: false }
              throw error
            }
          },
        },
        depth: JOBS,
        submit: (job, { open }) => sessions.run(job, open),
        recover: ({ signal }) => crypto.recover(signal),
        beforeReset: () => crypto.beforeReset(),
        afterReset: () => crypto.afterReset(),
      }
    },
  })
}

export default virtioCryptoDriver()
