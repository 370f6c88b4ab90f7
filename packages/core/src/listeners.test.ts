import t from 'tap'
import { Listeners } from './listeners.js'

t.test('a listener that throws keeps no other from being told', async (t) => {
  const listeners = new Listeners<string>()
  const told: string[] = []
  const bug = new Error('a bug of the listener')
  listeners.add(() => {
    throw bug
  })
  const forget = listeners.add((value) => void told.push(`first ${value}`))
  listeners.add((value) => void told.push(`second ${value}`))
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
  listeners.tell('a')
  t.same(told, ['first a', 'second a'])
  t.equal(await caught, bug)
  forget()
  t.equal(listeners.size, 2)
  listeners.clear()
  listeners.tell('b')
  t.equal(told.length, 2)
})
