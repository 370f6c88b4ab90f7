import type { Accel } from '@uaccel/accel'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { type AccelError, isAccelError } from '@uaccel/uapi'

/** How a client ended, and when (`performance.now`). */
export interface End {
  readonly error: AccelError
  readonly at: number
}

/** Clients of accel0 that never rest: each transfers data there and back until that fails, and answers why it did. */
export function busyClients(accel: Accel, count = 4): Promise<End[]> {
  const data = new Uint8Array(1000).fill(7)
  return Promise.all(
    Array.from({ length: count }, async () => {
      const client = accel.open(eduUapi, 'accel0')
      try {
        for (;;) await client.call('echo', { data })
      } catch (error) {
        const at = performance.now()
        if (isAccelError(error)) return { error, at }
        throw error
      } finally {
        await client.close()
      }
    }),
  )
}

/** That accel0 works. */
export async function works(accel: Accel): Promise<boolean> {
  await using client = accel.open(eduUapi, 'accel0')
  return (await client.call('factorial', { n: 5 })).value === 120
}
