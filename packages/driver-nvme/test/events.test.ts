import { setImmediate as turn } from 'node:timers/promises'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import type { AdminQueue } from '../src/admin.js'
import { Admin } from '../src/command.js'
import { Events } from '../src/events.js'

t.test('one request is with the controller, whatever became of the one before', async (t) => {
  const ends: { resolve(result: number): void; reject(error: Error): void }[] = []
  const full = accelError('ERR_ACCEL_AGAIN', '31 admin commands are under way: wait for one')
  let isFull = false
  const admin = {
    run: ({ opcode }: { opcode: number }) => {
      if (opcode !== Admin.asyncEventRequest) return Promise.resolve(0)
      if (isFull) return Promise.reject(full)
      return new Promise((resolve, reject) => ends.push({ resolve, reject }))
    },
  } as unknown as AdminQueue
  let told = 0
  const events = new Events(admin, {
    event: () => void told++,
    namespacesChanged: async () => {},
    broke: (error) => t.fail(error.message),
  })
  await events.configure(true)
  t.equal(ends.length, 1)
  ends[0]!.resolve(0)
  await turn()
  t.equal(told, 1)

  isFull = true
  events.turn()
  await turn()
  isFull = false
  events.turn()
  t.equal(ends.length, 2, 'asked for again when the admin queue had room')

  ends[1]!.reject(accelError('ERR_ACCEL_AGAIN', 'a reset'))
  await turn()
  events.turn() // between the controller being enabled and being configured
  await events.configure(true)
  t.equal(ends.length, 3, 'not two at once')
})
