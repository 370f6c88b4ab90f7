/** Half of a surrogate pair on its own. */
const LONE_SURROGATE = /\p{Cs}/u
/** Bytes of UTF-8 that a code unit of UTF-16 takes at most. */
const MAX_UTF8_BYTES = 3
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A text cut to the room that a field has for it, at a whole character. */
export function fit(text: string, maxBytes: number): string {
  const whole = !LONE_SURROGATE.test(text)
  if (whole && text.length * MAX_UTF8_BYTES <= maxBytes) return text
  const room = new Uint8Array(maxBytes)
  const { read, written } = encoder.encodeInto(text, room)
  // The encoder writes U+FFFD for what UTF-8 has no bytes for.
  return whole && read === text.length ? text : decoder.decode(room.subarray(0, written))
}
