import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { leavesNothing } from '@uaccel/testkit'
import type { Test } from 'tap'
import { busyClients, works } from '../busy.js'

/** An administrator who wants a device, as the way to it has one. */
export interface Owner {
  /** Wants the device back while `transport` is open; resolves when its user has let go of it. */
  take(transport: Transport): Promise<void>
  giveBack(): Promise<void>
}

/** A busy edu is taken from its users in order, and comes back. */
export function removalContract(t: Test, open: () => Promise<Transport>, owner: Owner): void {
  t.test('a busy device is wanted back, and comes back', async (t) => {
    await leavesNothing(t, async () => {
      const accel = new Accel()
      accel.on('error', (error) => t.fail(error.message))
      accel.register(edu)
      const transport = await open()
      await accel.add(transport)
      const removed = new Promise((resolve) => accel.once('removed', resolve))
      const ends = busyClients(accel)
      await sleep(50)
      await owner.take(transport)
      for (const { error } of await ends) {
        if (error.code !== 'ERR_ACCEL_NO_DEVICE') t.fail(`a user was told ${error.code}`)
      }
      await removed
      await owner.giveBack()
      await accel.add(await open())
      t.ok(await works(accel), 'it works again')
      await accel.close()
    })
  })
}
