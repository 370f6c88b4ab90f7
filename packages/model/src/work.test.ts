import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { Faults } from './faults.js'
import { WorkSet } from './work.js'

t.test('what resets a device waits for the work that waits for memory', async (t) => {
  const clock = {
    now: () => 0,
    after(_: number, run: () => void) {
      run()
      return () => {}
    },
  }
  const work = new WorkSet(clock, new Faults())
  const order: string[] = []
  work.after(0, () => {
    order.push('work begins')
    work.atRest(() => order.push('first'))
    t.ok(work.isAwaited)
    work.atRest(() => order.push('second'))
    order.push('work ends')
    throw accelError('ERR_ACCEL_DMA_FAULT', 'as every transfer does from then on')
  })
  t.same(order, ['work begins', 'work ends', 'first', 'second'])
  t.notOk(work.isAwaited)
  work.atRest(() => order.push('at once'))
  t.equal(order.at(-1), 'at once')
})
