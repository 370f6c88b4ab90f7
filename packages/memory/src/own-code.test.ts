import { execFileSync } from 'node:child_process'
import t from 'tap'
import { withOwnCode } from './index.js'

const makeAdder = (by: number) => (to: number) => by + to

t.test('copies do what the factory does, each with its own code', async (t) => {
  const [first, second] = [withOwnCode(makeAdder), withOwnCode(makeAdder)]
  t.equal(first(2)(3), 5)
  t.equal(second(5)(3), 8)
  t.not(first, makeAdder)
  t.not(first, second)
  const needsMore = (by: number) => (to: number) => makeAdder(by)(to)
  t.throws(() => withOwnCode(needsMore)(1)(2), { name: 'ReferenceError' }, 'it sees no names but its own')
})

t.test('without code from strings it is the factory itself', async (t) => {
  const program = `
    import { withOwnCode } from ${JSON.stringify(new URL('./index.js', import.meta.url).href)}
    const make = (by) => (to) => by + to
    console.log(withOwnCode(make) === make, withOwnCode(make)(2)(3))`
  const flags = ['--disallow-code-generation-from-strings', '--input-type=module', '--eval']
  t.equal(execFileSync(process.execPath, [...flags, program], { encoding: 'utf8' }).trim(), 'true 5')
})
