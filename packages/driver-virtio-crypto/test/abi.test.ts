import { requireSnapshot } from '@uaccel/uapi/reference'
import t from 'tap'
import { virtioCryptoUapi } from '../src/uapi.js'

t.test('the commands have the ABI that is checked in', async () => {
  requireSnapshot(
    virtioCryptoUapi,
    new URL('../../abi.json', import.meta.url),
    'npx uaccel uapi virtio-crypto --json --write packages/driver-virtio-crypto',
  )
})
