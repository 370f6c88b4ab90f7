import { requireSnapshot } from '@uaccel/uapi/reference'
import t from 'tap'
import { nvmeUapi } from '../src/uapi.js'

t.test('the commands have the ABI that is checked in', async () => {
  requireSnapshot(
    nvmeUapi,
    new URL('../../abi.json', import.meta.url),
    'npx uaccel uapi nvme --json --write packages/driver-nvme',
  )
})
