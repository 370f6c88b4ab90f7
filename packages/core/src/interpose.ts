import type { Transport } from './transport.js'

/** Makes of a transport the one that a device is to stand on. */
export type Interposer = (transport: Transport) => Transport

/** Of the process, and not of this module: a program may have another copy of this package than who interposes. */
const key = Symbol.for('@uaccel/core:interposer')
const place = globalThis as { [key]?: Interposer | undefined }
const made = new WeakMap<Transport, Transport>()

/**
 * Has every device that this process opens from now on stand on what `wrap` makes of its transport: for what looks on at programs that know
 * nothing of it, such as a recording. Who opened the transport keeps it, and closes it, not what was made of it. The last one counts;
 * answers a function that takes it back.
 */
export function interpose(wrap: Interposer): () => void {
  place[key] = wrap
  return () => {
    if (place[key] === wrap) place[key] = undefined
  }
}

/**
 * What a device stands on: always the same for a transport, of which several devices may be made one after the other. For who uses a
 * transport without a device, to be seen too.
 */
export function interposed(transport: Transport): Transport {
  const wrap = place[key]
  if (wrap === undefined) return transport
  let wrapped = made.get(transport)
  if (wrapped === undefined) {
    wrapped = wrap(transport)
    made.set(transport, wrapped).set(wrapped, wrapped)
  }
  return wrapped
}
