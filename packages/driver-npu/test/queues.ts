import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { openDevice, type Transport } from '@uaccel/core'
import type { Test } from 'tap'
import { type IrqMode, Npu, type NpuLease, type ShareContextOptions } from '../src/driver.js'
import { cases } from './cases.js'
import { type Bench, checkOperation, type WithNpu } from './contract.js'
import type { Actions, LoadEnd, Reply, Request } from './queues.worker.js'

/** How the suite reaches an NPU. */
export interface QueuesContractOptions<T extends Transport> {
  /** Default 4. */
  readonly workers?: number
  /** Random cases of each operation in each worker. Default 20. */
  readonly runs?: number
  /** Ways to learn of completions that the transport has, the one with most cases first. Default all three. */
  readonly irqs?: readonly Exclude<IrqMode, 'auto'>[]
  /** Times longer than on this machine, such as 10 in an emulated PC. Default 1. */
  readonly patience?: number
  /** Has the device vanish. Without it that test is left out. */
  vanish?(transport: T): void | Promise<void>
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

const program = new URL('./queues.worker.js', import.meta.url)
/** Longest time from an event to the end of all jobs of all workers, on a machine of two processors that does nothing else. */
const END_MS = 3000

/** A worker thread that does what it is asked to. */
class Hand {
  readonly worker = new Worker(program)
  /** Jobs done, and 1 to end a load. */
  readonly words = new Int32Array(new SharedArrayBuffer(8))
  readonly #replies = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  #last = 0

  constructor() {
    this.worker.on('message', ({ id, result, error }: Reply) => {
      const reply = this.#replies.get(id)!
      this.#replies.delete(id)
      if (error === undefined) reply.resolve(result)
      else reply.reject(new Error(error))
    })
  }

  ask<A extends keyof Actions>(
    action: A,
    ...args: Parameters<Actions[A]>
  ): Promise<Awaited<ReturnType<Actions[A]>>> {
    return this.#send(action, args, []) as Promise<Awaited<ReturnType<Actions[A]>>>
  }

  async attach(lease: NpuLease): Promise<void> {
    this.words.fill(0)
    await this.#send('attach', [lease.token, this.words], lease.transfer)
  }

  #send(action: keyof Actions, args: readonly unknown[], transfer: NpuLease['transfer']): Promise<unknown> {
    const id = ++this.#last
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject })
      this.worker.postMessage({ id, action, args } satisfies Request, transfer)
    })
  }

  /** Resolves when so many more jobs were done. */
  async progress(jobs: number): Promise<void> {
    const from = Atomics.load(this.words, 0)
    while (Atomics.load(this.words, 0) < from + jobs) await sleep(2)
  }
}

/** What this process holds, as the kernel counts it. */
function held(): string[] {
  const fds = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`descriptor of ${readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')}`]
    } catch {
      return [] // that of the listing itself
    }
  })
  const maps = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => / .w.s /.test(line))
    .map((line) => `mapping of ${line.split(/\s+/).slice(5).join(' ')}`)
  return [...fds, ...maps].sort()
}

/** What leaks in each round shows in one. In the lab the processor is emulated, and a worker thread takes seconds to start. */
const leakRounds = Number(process.env.UACCEL_LEAK_ROUNDS ?? (process.env.UACCEL_LAB ? 1 : 3))

/** What there is more of now: something that ended late may still have been there before. */
function beyond(now: readonly string[], before: readonly string[]): string[] {
  const known = [...before]
  return now.filter((one) => {
    const at = known.indexOf(one)
    if (at >= 0) known.splice(at, 1)
    return at < 0
  })
}

/**
 * Queues in worker threads: each worker drives a queue of its own, on a device that this thread opened. `open` connects to a device in test
 * mode (9.18) anew.
 */
export function queuesContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  {
    workers = 4,
    runs = 20,
    irqs = ['msix', 'intx', 'poll'],
    patience = 1,
    vanish,
    verify,
  }: QueuesContractOptions<T> = {},
): void {
  const hands: Hand[] = []
  const limitMs = END_MS * patience

  const withDevice = async (
    work: (bench: Bench & { transport: T }) => Promise<void>,
    irq: IrqMode,
    { clean = true, vectors }: { readonly clean?: boolean; readonly vectors?: number } = {},
  ) => {
    const transport = await open()
    try {
      const device = await openDevice(transport)
      const alloc = device.allocIrqVectors.bind(device)
      if (vectors !== undefined) device.allocIrqVectors = (request) => alloc({ ...request, max: vectors })
      try {
        await work({ transport, device, npu: await Npu.start(device, { irq }) })
      } finally {
        await device.release()
      }
      if (clean) verify?.(transport)
    } finally {
      await transport.close()
    }
  }
  const withNpu: WithNpu = (work, irq = 'auto') => withDevice(work, irq)

  /** A lease for each worker, attached there. */
  const lend = async (npu: Npu, options: ShareContextOptions = {}) => {
    const leases: NpuLease[] = []
    for (const hand of hands) {
      const lease = await npu.shareContext(options)
      await hand.attach(lease)
      leases.push(lease)
    }
    return leases
  }
  const all = <R>(ask: (hand: Hand, index: number) => Promise<R>) => Promise.all(hands.map(ask))

  /** What `loads` answered, if all did within the limit after `event`. */
  const endsAfter = async (t: Test, loads: Promise<LoadEnd[]>, event: () => unknown): Promise<LoadEnd[]> => {
    await all((hand) => hand.progress(20))
    const start = performance.now()
    const [ends] = await Promise.all([loads, event()])
    const tookMs = performance.now() - start
    t.ok(tookMs < limitMs, `all ended within ${limitMs} ms: ${Math.round(tookMs)}`)
    return ends
  }
  /** Jobs ended well, or with one of these, which at least one did. */
  const onlyEnds = (t: Test, { ends }: LoadEnd, ...codes: string[]) => {
    const { SUCCESS: _, ...others } = ends
    t.ok(Object.keys(others).length > 0, 'jobs were under way')
    t.strictSame(
      Object.keys(others).filter((code) => !codes.includes(code)),
      [],
      Object.keys(others).join(', '),
    )
  }

  t.before(async () => {
    for (let i = 0; i < workers; i++) hands.push(new Hand())
  })
  t.teardown(() => Promise.all(hands.map(({ worker }) => worker.terminate())))

  for (const irq of irqs) {
    t.test(`${workers} workers at once give what the reference gives, by ${irq}`, (t) =>
      withNpu(async ({ npu }) => {
        t.equal(npu.irqMode, irq)
        const leases = await lend(npu, { ringEntries: 16 })
        const names = [...Object.keys(cases), 'elementwise', 'contract', 'gather']
        const here = await npu.createContext()
        const [mine] = await Promise.all([
          checkOperation(here, 'matmul', runs),
          all((hand, i) =>
            hand.ask(
              'check',
              [...names.slice(i), ...names.slice(0, i)],
              irq === irqs[0] ? runs : Math.ceil(runs / 4),
            ),
          ),
        ])
        t.equal(mine, undefined)
        t.strictSame(
          await all((hand) => hand.ask('order', 200)),
          hands.map(() => true),
          'order, wrap, back-pressure',
        )
        t.strictSame(
          await all((hand) => hand.ask('spin', 20)),
          hands.map(() => 20),
          'without an event loop',
        )
        t.strictSame(
          await all((hand) => hand.ask('memory')),
          hands.map(() => 'ERR_ACCEL_NO_MEMORY'),
        )
        await all((hand) => hand.ask('close'))
        await Promise.all(leases.map((lease) => lease.close()))
      }, irq),
    )
  }

  if (irqs.includes('msix')) {
    t.test('each worker gets the interrupts of its own vector, one for each job', (t) =>
      withNpu(async ({ npu }) => {
        await lend(npu)
        // An emulated PC may join interrupts that come close together (QEMU's irqfd without KVM), but invents none.
        const within = (counts: readonly (number | undefined)[], jobs: readonly number[]) =>
          counts.every((count = 0, i) => count <= jobs[i] && count >= (patience === 1 ? jobs[i] : 1))
        const jobs = hands.map((_, i) => 10 * (i + 1))
        const counts = await all((hand, i) => hand.ask('single', jobs[i]))
        t.ok(within(counts, jobs), `${counts} interrupts for ${jobs} jobs`)
        await npu.recover()
        await all((hand) => hand.ask('revived'))
        const few = hands.map((_, i) => 5 + i)
        const after = await all((hand, i) => hand.ask('single', few[i]))
        t.ok(within(after, few), `${after} interrupts for ${few} jobs after a reset`)
      }, 'msix'),
    )
  }

  if (irqs.includes('msix') && patience === 1) {
    t.test('queues that share a vector: its interrupt reaches each worker', (t) =>
      withDevice(
        async ({ npu }) => {
          await lend(npu)
          const counts = await all((hand) => hand.ask('single', 5))
          t.ok(
            counts.every((count = 0) => count > 0),
            `${counts} interrupts`,
          )
        },
        'msix',
        { vectors: 2 },
      ),
    )
  }

  t.test('on-card memory in a worker', (t) =>
    withNpu(async ({ npu }) => {
      const lease = await npu.shareContext({ cardBytes: 64 * 1024 })
      await hands[0].attach(lease)
      t.strictSame(await hands[0].ask('card'), [1, 2, 3, 0])
      t.strictSame(await hands[0].ask('kept'), ['7', '7', '7'])
      await lease.close()
      t.equal(await hands[0].ask('failure'), 'ERR_ACCEL_CLOSED')
      const gone = 'ERR_ACCEL_REVOKED'
      t.strictSame(await hands[0].ask('kept'), [gone, gone, 'ERR_ACCEL_NO_DEVICE'], 'not zeros')
    }),
  )

  // Where workers do not wait for a vector of their own, this thread passes interrupts on, also while a queue is being stopped.
  for (const irq of irqs.includes('intx') && patience === 1
    ? (['auto', 'intx'] as const)
    : (['auto'] as const)) {
    t.test(`a worker that is terminated in mid-job leaves its queue behind, the others go on: ${irq}`, (t) =>
      withNpu(async ({ npu, device }) => {
        const leases = await lend(npu)
        const { mappings } = device.dma
        for (const hand of hands) void hand.ask('load', 8)
        await all((hand) => hand.progress(20))
        await hands[0].worker.terminate()
        const start = performance.now()
        await leases[0].close()
        t.ok(performance.now() - start < limitMs, 'its queue was stopped')
        t.ok(device.dma.mappings < mappings, 'its memory was taken back')
        await Promise.all(hands.slice(1).map((hand) => hand.progress(50)))
        for (const hand of hands) Atomics.store(hand.words, 1, 1)
        hands[0] = new Hand()
        const lease = await npu.shareContext()
        await hands[0].attach(lease)
        await hands[0].ask('check', ['matmul'], runs)
        t.equal(lease.control.index, leases[0].control.index, 'the queue is used again')
        await Promise.all(leases.slice(1).map((one) => one.close()))
      }, irq),
    )
  }

  t.test('a lease is taken back under load', (t) =>
    withNpu(async ({ npu }) => {
      const leases = await lend(npu)
      const ends = await endsAfter(
        t,
        all((hand) => hand.ask('load', 8)),
        () => Promise.all(leases.map((lease) => lease.close())),
      )
      for (const end of ends) onlyEnds(t, end, 'ABORTED 0', 'ERR_ACCEL_CLOSED')
      await t.rejects(hands[0].ask('check', ['lut'], 1), { message: 'ERR_ACCEL_CLOSED' })
    }),
  )

  t.test('a reset under load: all end with it, and go on', (t) =>
    withNpu(async ({ npu }) => {
      const leases = await lend(npu)
      for (let round = 0; round < 3; round++) {
        const ends = await endsAfter(
          t,
          all((hand) => hand.ask('load', 8)),
          () => npu.recover(),
        )
        for (const end of ends) onlyEnds(t, end, 'ERR_ACCEL_IO')
        await all((hand) => hand.ask('revived'))
        await all((hand) => hand.ask('check', ['matmul', 'copy'], Math.ceil(runs / 4)))
      }
      const ends = await endsAfter(
        t,
        all((hand, i) => (i === 0 ? hand.ask('spinLoad') : hand.ask('load', 8))),
        () => npu.recover(),
      )
      for (const end of ends) onlyEnds(t, end, 'ERR_ACCEL_IO')
      t.equal(leases.length, workers)
    }),
  )

  t.test('a worker finds the device hung: a reset, of the function where it has that, and all go on', (t) =>
    withNpu(async ({ npu, device }) => {
      await lend(npu)
      const others = hands.slice(1).map((hand) => hand.ask('single', 3).catch(() => {}))
      t.equal(await hands[0].ask('hang', device.resettable), 'ERR_ACCEL_TIMEOUT')
      await npu.recover()
      await Promise.all(others)
      await all((hand) => hand.ask('revived'))
      await all((hand) => hand.ask('check', ['matmul', 'fill'], Math.ceil(runs / 4)))
    }),
  )

  t.test('the device is released with workers attached and at work', async (t) => {
    let ends: LoadEnd[] = []
    await withDevice(async ({ npu, device }) => {
      await lend(npu)
      ends = await endsAfter(
        t,
        all((hand, i) => (i === 0 ? hand.ask('spinLoad') : hand.ask('load', 8))),
        () => device.release(),
      )
    }, 'auto')
    for (const end of ends) onlyEnds(t, end, 'ERR_ACCEL_NO_DEVICE')
  })

  if (vanish !== undefined) {
    t.test('the device vanishes under load', async (t) => {
      let ends: LoadEnd[] = []
      await withDevice(
        async ({ npu, transport }) => {
          await lend(npu)
          ends = await endsAfter(
            t,
            all((hand, i) => (i === 0 ? hand.ask('spinLoad') : hand.ask('load', 8))),
            () => vanish(transport),
          )
        },
        'auto',
        { clean: false },
      )
      for (const end of ends) onlyEnds(t, end, 'ERR_ACCEL_NO_DEVICE')
    })
  }

  t.test(
    'nothing is left behind, neither by workers that ended nor by those that were terminated',
    async (t) => {
      const round = () =>
        withNpu(async ({ npu }) => {
          const leases = [
            await npu.shareContext(),
            await npu.shareContext({ cardBytes: 4096 }),
            await npu.shareContext(),
          ]
          const [one, two] = [new Hand(), new Hand()]
          await one.attach(leases[0])
          await two.attach(leases[1])
          void two.ask('load', 4)
          await one.ask('single', 3)
          await two.progress(5)
          await one.ask('close')
          await Promise.all([one.worker.terminate(), two.worker.terminate()])
          await Promise.all(leases.map((lease) => lease.close()))
        })
      await round()
      const before = held()
      for (let i = 0; i < leakRounds; i++) await round()
      let left = beyond(held(), before)
      for (let i = 0; i < 100 && left.length > 0; i++) {
        await sleep(20)
        left = beyond(held(), before)
      }
      t.strictSame(left, [])
    },
  )
}
