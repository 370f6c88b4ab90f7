import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { createSealedMemory, type EngineName, EventFd, Mapping, sys, watch } from '@uaccel/sys'
import { onCore, onOneCore, twoCores } from './affinity.js'
import { startBaseline } from './baseline.js'
import { expect, type Measure, type Run } from './measure.js'

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

/** p50 and p99 in microseconds. */
function percentiles(latencies: Float64Array): number[] {
  const sorted = latencies.sort()
  return [0.5, 0.99].map((share) => sorted[Math.floor(sorted.length * share)] / 1000)
}

interface Listener {
  /** Answers how long each event took, in nanoseconds, once it has handled so many. */
  run(operations: number): Promise<Float64Array>
  close(): unknown
}

/** Listens in this event loop. The handler does what that of `c/eventfd-epoll.c` does. */
class LoopListener implements Listener {
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

  async run(operations: number): Promise<Float64Array> {
    this.#latencies = new Float64Array(operations)
    this.#count = 0
    await this.#line.writer.run(operations)
    expect(this.#count, operations, 'events handled')
    return this.#latencies
  }

  close(): void {
    this.#watch.close()
    this.#mapping.revoke()
  }
}

/** Blocks in a worker thread: see `eventfd-blocker.ts`. */
class BlockingListener implements Listener {
  readonly #line: Line
  readonly #worker: Worker

  constructor(line: Line) {
    this.#line = line
    const workerData = { fd: line.event.fd, page: line.page }
    this.#worker = new Worker(new URL('./eventfd-blocker.js', import.meta.url), { workerData })
  }

  async run(operations: number): Promise<Float64Array> {
    this.#worker.postMessage(operations)
    const ended = once(this.#worker, 'message')
    await this.#line.writer.run(operations)
    return (await ended)[0]
  }

  close(): Promise<number> {
    return this.#worker.terminate()
  }
}

const ways: Readonly<Record<string, (line: Line) => Listener>> = {
  'handler, uv engine': (line) => new LoopListener(line, 'uv'),
  'handler, epoll engine': (line) => new LoopListener(line, 'epoll'),
  'a thread that blocks': (line) => new BlockingListener(line),
}

/** Where writer and listener are. */
export const eventfdPlaces = ['one core', 'two cores'] as const
type EventfdPlace = (typeof eventfdPlaces)[number]

/**
 * One way from a write to an eventfd, in another process, to the first line that handles it. Where both are is not left to the scheduler,
 * which takes another choice for each side and costs it the waking of a core: once on one core, once apart.
 */
export async function eventfd(measure: Measure, run: Run): Promise<void> {
  await onOneCore(() => eachWay(measure, 'one core', () => new Line()))
  const cores = twoCores()
  if (cores === undefined) {
    run.leaveOut('eventfd between two cores: there is one.')
    return
  }
  const [listener, writer] = cores
  await onCore(listener, () => eachWay(measure, 'two cores', () => onCore(writer, () => new Line())))
}

async function eachWay(
  measure: Measure,
  where: EventfdPlace,
  open: () => Line | Promise<Line>,
): Promise<void> {
  for (const [name, listen] of Object.entries(ways)) {
    const [ours, theirs] = [await open(), await open()]
    const loop = startBaseline('eventfd-epoll', [], [theirs.event.fd, theirs.page])
    const listener = listen(ours)
    try {
      await measure({
        rows: [`eventfd to ${name}, ${where}, p50`, `eventfd to ${name}, ${where}, p99`],
        unit: 'us',
        operations: 2000,
        typescript: async (operations) => percentiles(await listener.run(operations)),
        c: async (operations) => {
          const [figures] = await Promise.all([loop.run(operations), theirs.writer.run(operations)])
          return figures
        },
      })
    } finally {
      await listener.close()
      await loop.close()
      await Promise.all([ours.close(), theirs.close()])
    }
  }
}
