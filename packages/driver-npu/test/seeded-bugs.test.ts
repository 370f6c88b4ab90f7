import { openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { type Bug, npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'
import { checkOperation } from './contract.js'

/** Runs the comparison with the reference, as the contract does, against a model with a seeded error. */
async function compare(bug: Bug | undefined, operation: string): Promise<void> {
  const transport = loopback(npuModel, { model: { ...(bug === undefined ? {} : { bug }) } })
  const device = await openDevice(transport)
  try {
    const npu = await Npu.start(device)
    await checkOperation(await npu.createContext(), operation, 50)
  } finally {
    await device.release()
    await transport.close()
  }
}

// Were one of these not to be noticed, agreement with the reference would prove nothing.
const noticed: readonly (readonly [Bug, string])[] = [
  ['round-half-up', 'conv2d'],
  ['round-half-up', 'matmul'],
  ['round-half-up', 'pool'],
  ['round-half-up', 'add'],
  ['round-half-up', 'requantise'],
  ['zero-padding', 'conv2d'],
  ['wrapping-saturation', 'matmul'],
  ['wrapping-saturation', 'add'],
]

for (const [bug, operation] of noticed) {
  t.test(`${bug} in ${operation} is noticed`, (t) => t.rejects(compare(bug, operation), /the reference says/))
}

t.test('the model without a seeded error passes the same comparison', (t) =>
  t.resolves(compare(undefined, 'conv2d')),
)
