import { Accel, type AccelClient, type ClientBuffers, openBuffers } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import { type Nvme, nvmeDriver, nvmeUapi } from '../src/driver.js'

/** A controller for one test, as its clients see it. */
export interface Bench {
  readonly nvme: Nvme
  readonly client: AccelClient<typeof nvmeUapi>
  readonly buffers: ClientBuffers
  readonly blockBytes: number
}

/** Runs `work` with a controller that was brought up anew by the subsystem. */
export async function withNvme<T extends Transport>(
  open: () => Promise<T>,
  work: (bench: Bench, transport: T) => Promise<void>,
  options: Parameters<typeof nvmeDriver>[0] = {},
): Promise<T> {
  const transport = await open()
  const accel = new Accel()
  try {
    let nvme: Nvme | undefined
    accel.register(nvmeDriver({ ...options, onReady: (ready) => (nvme = ready) }))
    await accel.add(transport)
    const client = accel.open(nvmeUapi, 'accel0')
    const buffers = openBuffers(client)
    await work({ nvme: nvme!, client, buffers, blockBytes: nvme!.namespace(1).blockBytes }, transport)
    await client.close()
  } finally {
    await accel[Symbol.asyncDispose]()
  }
  return transport
}

/** A generator of numbers below a bound: the same each time. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0 // Numerical Recipes' generator
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Puts bytes into memory of which each block says which it is. */
export function fill(bytes: Uint8Array, seed: number): void {
  const next = numbers(seed)
  for (let i = 0; i < bytes.length; i++) bytes[i] = next(256)
}
