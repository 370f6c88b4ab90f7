import t from 'tap'
import { clientContract, contractUapi } from './index.js'

t.setTimeout(200_000)

t.test('a client in the process of the driver keeps the contract', async (t) => {
  clientContract(t, async (accel) => accel.open(contractUapi, 'accel0'))
})
