import { type ClientBuffers, type CommonCaller, openBuffers } from '@uaccel/accel'

const known = new WeakMap<CommonCaller, ClientBuffers>()

/** The buffers of an open: made once for it, since a fence of theirs goes with the open. */
export function buffersOf(client: CommonCaller): ClientBuffers {
  const buffers = known.get(client) ?? openBuffers(client)
  known.set(client, buffers)
  return buffers
}
