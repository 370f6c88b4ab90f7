import { requireSnapshot } from '@uaccel/uapi/reference'
import t from 'tap'
import { eduUapi } from '../src/uapi.js'

t.test('the commands have the ABI that is checked in', async () => {
  requireSnapshot(
    eduUapi,
    new URL('../../abi.json', import.meta.url),
    'npx uaccel uapi edu --json --write packages/driver-edu',
  )
})
