/*
 * Records a program that knows nothing of it: `UACCEL_RECORD=FILE node --import @uaccel/replay/record program.js`. Each device that
 * it opens has a file of its own: FILE, then FILE with a number. `uaccel record` does it for a program and what that starts.
 */
import { parse } from 'node:path'
import { interpose, type Transport } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { type RecordedTransport, recording } from './recording.js'

/** Devices of one program, or of all that it starts. */
const MAX_FILES = 1000

const wanted = process.env.UACCEL_RECORD
if (wanted !== undefined && wanted !== '') {
  const begun: RecordedTransport[] = []
  process.once('exit', () => {
    for (const recorded of begun) recorded.endRecording()
  })
  interpose((transport) => {
    const recorded = record(transport, wanted)
    begun.push(recorded)
    return recorded
  })
}

function record(transport: Transport, file: string): RecordedTransport {
  for (let n = 1; ; n++) {
    const path = n === 1 ? file : numbered(file, n)
    try {
      const recorded = recording(transport, path)
      process.stderr.write(`uaccel: ${transport.identity.address} is recorded into ${path}\n`)
      return recorded
    } catch (error) {
      // Another device of the program, or of a process that it started, has it.
      if (!isAccelError(error, 'ERR_ACCEL_BUSY') || n === MAX_FILES) throw error
    }
  }
}

/** `edu.rec` -> `edu-2.rec`. */
function numbered(file: string, n: number): string {
  const { ext } = parse(file)
  return `${file.slice(0, file.length - ext.length)}-${n}${ext}`
}
