import { accelDriver, Completion } from '@uaccel/accel'
import { type AccelError, accelError } from '@uaccel/uapi'
import { VirtioCrypto, type VirtioCryptoOptions } from './crypto.js'
import { OpenSessions } from './jobs.js'
import { CryptoOperation } from './operation.js'
import type { CryptoSession } from './session.js'
import { MAX_DIGEST_BYTES, MAX_INLINE_BYTES, virtioCryptoUapi } from './uapi.js'

export type { CryptoCapabilities } from './capabilities.js'
export { type IrqMode, VirtioCrypto, type VirtioCryptoOptions } from './crypto.js'
export type { CryptoDone } from './data-queue.js'
export { CryptoOperation, type Stretch } from './operation.js'
export type { CryptoSession } from './session.js'

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
        data: Uint8Array,
        resultBytes: number,
        iv: Uint8Array,
        signal: AbortSignal,
      ) {
        const from = { iova: input.iova, sizeBytes: data.length }
        const to = { iova: output.iova, sizeBytes: resultBytes }
        const operation = new CryptoOperation(session, [from], [to], iv, Number(has.maxRequestBytes))
        // Also what the device has not written is not what was of another open.
        output.u8.fill(0)
        input.u8.set(data)
        const ended = new Completion('the crypto operation')
        let failure: AccelError | undefined
        try {
          crypto.submit(operation, (error) => {
            failure = error
            ended.complete()
          })
          crypto.flush()
          await ended.wait({ signal })
          if (failure !== undefined) throw failure
          return output.u8.slice(0, resultBytes)
        } finally {
          input.u8.fill(0)
          output.u8.fill(0)
        }
      }
      function require(session: CryptoSession, cipher: boolean) {
        if ((session.kind.service === 'cipher') === cipher) return session
        throw accelError(
          'ERR_ACCEL_INVALID_ARGUMENT',
          `wanted a session of a ${cipher ? 'cipher' : 'hash or MAC'}, found one of a ${session.kind.service}`,
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
            const found = require(sessions.get(open, session), true)
            return { data: await run(found, data, data.length, iv, signal) }
          },
          async digest({ session, data }, { open, signal }) {
            const found = require(sessions.get(open, session), false)
            const bytes = Math.min(found.kind.resultBytes, MAX_DIGEST_BYTES)
            return { digest: await run(found, data, bytes, new Uint8Array(), signal) }
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
