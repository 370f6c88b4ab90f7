import { createSealedMemory, type EngineName, EventFd, Mapping, sys, watch } from '@uaccel/sys'
import { startBaseline } from './baseline.js'
import { expect, type Measure } from './measure.js'

/** An eventfd, the page in which writer and listener meet (`c/eventfd.h`), and the writer's process. */
class Line {
  readonly event = new EventFd()
  readonly page: number
  readonly writer

  constructor() {
    this.page = createSealedMemory('eventfd-bench', 4096).fd
    this.writer = startBaseline('eventfd-writer', [], [this.event.fd, this.page])
  }

  async close(): Promise<void> {
    await this.writer.close()
    this.event.close()
    sys.close(this.page)
  }
}

/** Listens in this event loop. The handler does what that of `c/eventfd-epoll.c` does. */
class Listener {
  readonly #mapping: Mapping
  readonly #watch
  readonly #line: Line
  #latencies = new Float64Array(0)
  #count = 0
  #handled = 0

  constructor(line: Line, engine: EngineName) {
    this.#line = line
    this.#mapping = Mapping.map({ fd: line.page, offset: 0, sizeBytes: 4096 })
    const { window } = this.#mapping
    this.#watch = watch(
      line.event.fd,
      () => {
        const now = process.hrtime.bigint() // CLOCK_MONOTONIC, as the writer's; taken first, so that its own cost does not count
        line.event.drain()
        this.#latencies[this.#count++] = Number(now - window.u64[0])
        window.u32[4] = ++this.#handled
      },
      { engine },
    )
  }

  /** p50 and p99 in microseconds. */
  async run(operations: number): Promise<number[]> {
    this.#latencies = new Float64Array(operations)
    this.#count = 0
    await this.#line.writer.run(operations)
    expect(this.#count, operations, 'events handled')
    const sorted = this.#latencies.sort()
    return [sorted[operations >> 1] / 1000, sorted[Math.floor((operations * 99) / 100)] / 1000]
  }

  close(): void {
    this.#watch.close()
    this.#mapping.revoke()
  }
}

/** One way from a write to an eventfd, in another process, to the handler in the event loop. */
export async function eventfd(measure: Measure): Promise<void> {
  for (const engine of ['uv', 'epoll'] as const) {
    const [ours, theirs] = [new Line(), new Line()]
    const loop = startBaseline('eventfd-epoll', [], [theirs.event.fd, theirs.page])
    const listener = new Listener(ours, engine)
    try {
      await measure({
        rows: [`eventfd to handler, ${engine} engine, p50`, `eventfd to handler, ${engine} engine, p99`],
        unit: 'us',
        operations: 2000,
        typescript: (operations) => listener.run(operations),
        c: async (operations) => {
          const [figures] = await Promise.all([loop.run(operations), theirs.writer.run(operations)])
          return figures
        },
      })
    } finally {
      listener.close()
      await loop.close()
      await Promise.all([ours.close(), theirs.close()])
    }
  }
}
