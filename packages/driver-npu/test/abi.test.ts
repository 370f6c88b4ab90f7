import { requireSnapshot } from '@uaccel/uapi/reference'
import t from 'tap'
import { npuUapi } from '../src/uapi.js'

t.test('the commands have the ABI that is checked in', async () => {
  requireSnapshot(
    npuUapi,
    new URL('../../abi.json', import.meta.url),
    'npx uaccel uapi npu --json --write packages/driver-npu',
  )
})
