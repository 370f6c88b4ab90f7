import type { ClientBuffer, ClientBuffers } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { Accelerator, AcceleratorMemory, CommandList } from '@uaccel/webnn/accelerator'
import { ContextMemory, type NpuBuffer } from '../buffers.js'
import { encodeJob } from '../uapi.js'
import { OneChunk } from '../user-queue.js'
import type { Command } from './draft.js'
import { bufferOf, NpuMemory, placed } from './memory.js'

/** What SUBMIT takes at most: the field `payload` of the common uAPI. */
const PAYLOAD_BYTES = 8192
/** The driver's process ends what hangs: a limit of this side would only give memory away that the device still uses. */
const RUN_TIMEOUT_MS = 86_400_000

/** What the jobs of an accelerator share: one buffer object, of which all its memory is. */
class SubmittedJobs {
  readonly memory: ContextMemory
  readonly #buffers: ClientBuffers
  readonly #object: ClientBuffer
  #running = 0

  constructor(buffers: ClientBuffers, object: ClientBuffer) {
    this.#buffers = buffers
    this.#object = object
    // Addresses are offsets in the buffer object.
    const { u8, sizeBytes } = object
    this.memory = new ContextMemory(new OneChunk({ u8, sizeBytes, iova: 0n }), () => this.#running > 0)
  }

  /** Runs one payload after the other, up to the first that fails. */
  async run(payloads: readonly Uint8Array[]): Promise<void> {
    this.#running++
    try {
      for (const payload of payloads) {
        const job = { buffers: [{ buffer: this.#object }], payload }
        await this.#buffers.run(job, { timeoutMs: RUN_TIMEOUT_MS })
      }
    } finally {
      this.#running--
      if (this.#running === 0) this.memory.idle()
    }
  }
}

/** Commands as payloads of jobs: several, where they are more than one job takes. */
class SubmittedList implements CommandList {
  readonly #jobs: SubmittedJobs
  readonly #commands: readonly Command[]
  readonly #memories: (NpuBuffer | undefined)[] = []
  #payloads: readonly Uint8Array[] | undefined
  #running = false
  #freed = false

  constructor(jobs: SubmittedJobs, commands: readonly Command[]) {
    this.#jobs = jobs
    this.#commands = commands
  }

  bind(buffer: number, memory: AcceleratorMemory): void {
    this.#checkIdle('bound')
    const to = bufferOf(memory)
    if (this.#memories[buffer] === to) return
    this.#memories[buffer] = to
    this.#payloads = undefined
  }

  submit(done: (error: Error | undefined, micros: number | undefined) => void): void {
    this.#checkIdle('submitted')
    for (const memory of this.#memories) memory?.checkUse(this.#jobs.memory, 0, 0)
    this.#payloads ??= this.#encode()
    this.#running = true
    const ended = (error?: Error) => {
      this.#running = false
      done(error, undefined)
    }
    this.#jobs.run(this.#payloads).then(() => ended(), ended)
  }

  free(): void {
    this.#freed = true
    this.#payloads = undefined
  }

  #encode(): readonly Uint8Array[] {
    const at = (memory: number, offset: number) => {
      const buffer = this.#memories[memory]
      if (buffer === undefined)
        throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Memory ${memory} of a list of the NPU was not bound`)
      return { buffer: 0, offset: Number(buffer.address) + offset }
    }
    const steps = this.#commands.map((command) => encodeJob([placed(command, at) as Command]))
    const payloads: Uint8Array[][] = []
    let left = 0
    for (const step of steps) {
      if (step.length > left) {
        payloads.push([])
        left = PAYLOAD_BYTES
      }
      payloads.at(-1)!.push(step)
      left -= step.length
    }
    return payloads.map((parts) => Buffer.concat(parts))
  }

  #checkIdle(what: string): void {
    if (this.#freed) throw accelError('ERR_ACCEL_REVOKED', `A list of the NPU was freed and then ${what}`)
    if (this.#running) throw accelError('ERR_ACCEL_BUSY', `A list of the NPU was ${what} while it ran`)
  }
}

interface JobAcceleratorOptions {
  readonly buffers: ClientBuffers
  /** All memory of the accelerator. */
  readonly memory: ClientBuffer
  readonly lost: Promise<AccelError>
  close(): Promise<void>
}

/** An accelerator whose lists the driver's process submits, for nodes that cannot hand a queue out. */
export function jobAccelerator({
  buffers,
  memory,
  lost,
  close,
}: JobAcceleratorOptions): Omit<Accelerator<Command>, 'name' | 'operators' | 'follows'> {
  const jobs = new SubmittedJobs(buffers, memory)
  let closing: Promise<void> | undefined
  let closed: (reason: string) => void
  const closes = new Promise<string>((resolve) => {
    closed = resolve
  })
  return {
    allocate: (sizeBytes) => new NpuMemory(jobs.memory.alloc(sizeBytes, 'host', 'tensor')),
    prepare(commands, memories) {
      const list = new SubmittedList(jobs, commands)
      for (const [at, each] of memories.entries()) if (each !== undefined) list.bind(at, each)
      return list
    },
    lost: Promise.race([closes, lost.then(({ message }) => message)]),
    close() {
      closed('The NPU context was closed')
      closing ??= close()
      return closing
    },
  }
}
