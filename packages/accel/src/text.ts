/** Half of a surrogate pair on its own. */
const LONE_SURROGATE = /\p{Cs}/u
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A text cut to the room that a field has for it, at a whole character. */
export function fit(text: string, maxBytes: number): string {
  const room = new Uint8Array(maxBytes)
  const { read, written } = encoder.encodeInto(text, room)
  // The encoder writes U+FFFD for what UTF-8 has no bytes for.
  return read === text.length && !LONE_SURROGATE.test(text) ? text : decoder.decode(room.subarray(0, written))
}
