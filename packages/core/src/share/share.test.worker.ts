import { parentPort, workerData } from 'node:worker_threads'
import { isAccelError } from '@uaccel/uapi'
import type { Mmio } from '../mmio.js'
import { reg32, registers } from '../registers.js'
import { attachDevice, type SharedDevice, type SharedMemory } from './borrower.js'
import type { EventLine } from './event-line.js'
import type { SharedBarToken, SharedEventToken, SharedMemoryToken, ShareToken } from './tokens.js'

/** What the test hands to its worker. */
export interface WorkerJob {
  readonly device: ShareToken
  readonly bar?: SharedBarToken
  readonly memory?: SharedMemoryToken
  readonly event?: SharedEventToken
  /** For which the worker blocks, where it is asked to. */
  readonly awaited?: SharedEventToken
  /** One word: what the busy loop has done so far; set to -1 to end it. */
  readonly progress: Int32Array
}

const port = parentPort!
const { device: token, bar, memory: memoryToken, event, awaited, progress } = workerData as WorkerJob
const Map0 = registers({ FIRST: reg32(0, 'rw'), FAR: reg32(0x3000, 'rw') })

let device: SharedDevice
let mmio: Mmio | undefined
let memory: SharedMemory | undefined
let line: EventLine | undefined
let stale: Uint8Array | undefined

const code = (error: unknown) => (isAccelError(error) ? error.code : String(error))

/** What the test asks for by message; the answer goes back. */
const actions: Record<string, (at: number, value: number) => unknown> = {
  read: (at) => mmio!.read32(at),
  write: (at, value) => mmio!.write32(at, value),
  register: () => device.bar(bar!).registers(Map0).FIRST.read(),
  far: () => device.bar(bar!).registers(Map0).FAR.write(1),
  memory: () => device.memory(memoryToken!).u8[0],
  memoryWrite: (at, value) => {
    stale = memory!.u8
    memory!.u8[at] = value
    return memory!.iova
  },
  staleWrite: (at, value) => {
    stale![at] = value
    return stale![at]
  },
  say: () => device.post('from the worker'),
  again: () => attachDevice(token),
  close: () => device.close(),
  /** Never reaches the event loop either. Says how it ended, and in `progress` how often it was woken. */
  block: () => {
    for (progress[0] = 1; ; ) {
      if (line!.waitSync({ timeoutMs: 30_000 }) > 0) progress[0]++
      else progress[1]++
    }
  },
  look: () => line!.waitSync({ timeoutMs: 0 }),
  wait: (timeoutMs) => line!.waitSync({ timeoutMs }),
  /** Looks at memory without ever reaching the event loop, until it reads as zero. Answers whether that may be believed. */
  untilZero: () => {
    const { u8 } = memory!
    for (u8[0] = 1; u8[0] !== 0; ) Atomics.add(progress, 0, 1)
    return !device.takenBack
  },
  closeLine: () => line!.close(),
  counts: () => line!.counts.fired,
  /** Writes without ever reaching the event loop, and looks for news by one load. */
  busy: () => {
    for (let i = 0; Atomics.load(progress, 0) >= 0; i++) {
      if (device.changed) {
        device.sync()
        if (device.signal.aborted) return code(device.signal.reason)
      }
      try {
        mmio!.write32(8, i & 0xffff)
        Atomics.add(progress, 0, 1)
      } catch (error) {
        if (code(error) !== 'ERR_ACCEL_NO_DEVICE') return code(error)
        progress[1]++
      }
    }
    return 'ended'
  },
}

port.on('message', ([action, at = 0, value = 0]: [string, number?, number?]) => {
  try {
    port.postMessage({ answer: actions[action](at, value) })
  } catch (error) {
    port.postMessage({ error: code(error) })
  }
})

try {
  device = attachDevice(token)
  device.signal.addEventListener('abort', () => {
    port.postMessage({ aborted: code(device.signal.reason) })
    setImmediate(() => port.close()) // after the answer
  })
  device.onMessage = (value) => port.postMessage({ said: value })
  if (bar !== undefined) mmio = device.bar(bar).memory()
  if (memoryToken !== undefined) memory = device.memory(memoryToken)
  if (awaited !== undefined) line = device.event(awaited)
  if (event !== undefined) await device.event(event).handle((count) => port.postMessage({ fired: count }))
  port.postMessage({ answer: 'ready' })
} catch (error) {
  port.postMessage({ error: code(error) })
  port.close()
}
