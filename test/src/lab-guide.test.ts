import t from 'tap'
import { follow, pages, wholeOf } from './guide/follow.js'

t.setTimeout(600_000)

for (const [name, steps] of pages)
  if (steps.some((step) => step.do === 'run' && /lab|guest/.test(step.flags.join())))
    t.test(`${name}, in the lab too`, async (t) => {
      await follow(wholeOf(name), { lab: true })
      t.pass('to its end')
    })
