import { createCipheriv } from 'node:crypto'
import virtioCrypto from '@uaccel/driver-virtio-crypto'
import { virtioCryptoModel } from '@uaccel/driver-virtio-crypto/model'
import { faultMatrix } from '@uaccel/testkit/faults'

const key = Buffer.alloc(16, 0x11)
const iv = Buffer.alloc(16, 0x22)
let round = 0

export const virtioCryptoFaults = faultMatrix(virtioCrypto, virtioCryptoModel, {
  module: import.meta.url,
  operations: {
    async cipher(dev) {
      const data = Buffer.alloc(64, ++round)
      const wanted = createCipheriv('aes-128-cbc', key, iv).update(data)
      const kind = { algorithm: 'aesCbc', direction: 'encrypt', key } as const
      const { session } = await dev.call('createCipherSession', kind)
      const outcome = await dev.call('cipher', { session, iv, data }).catch((error) => error)
      await dev.call('destroySession', { session })
      if (outcome instanceof Error) throw outcome
      return wanted.equals(outcome.data)
    },
  },
})
