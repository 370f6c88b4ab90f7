import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { type Device, openDevice, type Transport } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import type { Test } from 'tap'
import { type IrqMode, Nvme, type NvmeLease, type NvmeStartOptions } from '../src/driver.js'
import { Word } from './numbers.js'
import type { Actions, LoadEnd, Place, Reply, Request } from './workers.worker.js'

/** How the suite reaches a controller whose doorbells can be mapped. Its namespace 1 is written to. */
export interface NvmeWorkersContractOptions<T extends Transport> {
  /** Default 4. */
  readonly workers?: number
  /** Reads and writes of each worker's soak. Default 500. */
  readonly ios?: number
  /** Blocks of namespace 1 that it uses from its start. Default 2,048. */
  readonly blocks?: number
  /** Ways to learn of completions that the transport has. Default MSI-X, INTx and polling. */
  readonly irqs?: readonly IrqMode[]
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

const program = new URL('./workers.worker.js', import.meta.url)

/** A worker thread that does what it is asked to. */
export class Hand {
  readonly worker = new Worker(program)
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

  async attach(lease: NvmeLease): Promise<void> {
    this.words.fill(0)
    await this.#send('attach', [lease.token, this.words], lease.transfer)
  }

  /** Has loads end. */
  stop(): void {
    Atomics.store(this.words, Word.STOP, 1)
  }

  /** Resolves when so many more commands ended well. */
  async progress(commands: number): Promise<void> {
    const from = Atomics.load(this.words, Word.DONE)
    while (Atomics.load(this.words, Word.DONE) < from + commands) await sleep(2)
  }

  #send(action: keyof Actions, args: readonly unknown[], transfer: NvmeLease['transfer']): Promise<unknown> {
    const id = ++this.#last
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject })
      this.worker.postMessage({ id, action, args } satisfies Request, transfer)
    })
  }
}

/** Brings a controller up without the subsystem, and takes it down. */
export async function withController<T extends Transport>(
  transport: T,
  options: NvmeStartOptions,
  work: (nvme: Nvme, device: Device) => Promise<void>,
): Promise<void> {
  try {
    const device = await openDevice(transport)
    try {
      await work(await Nvme.start(device, options), device)
    } finally {
      await device.release()
    }
  } finally {
    await transport.close()
  }
}

/** Queues in worker threads: each worker drives a queue pair of its own, on a controller that this thread opened. */
export function nvmeWorkersContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  {
    workers = 4,
    ios = 500,
    blocks = 2048,
    irqs = ['msix', 'intx', 'poll'],
    verify,
  }: NvmeWorkersContractOptions<T> = {},
): void {
  const hands: Hand[] = []
  const withNvme = async (work: (nvme: Nvme, device: Device) => Promise<void>, irq?: IrqMode) => {
    const transport = await open()
    await withController(transport, { queues: 1, workerQueues: workers, irq: irq ?? 'auto' }, work)
    verify?.(transport)
  }
  /** A queue for each worker, attached there. */
  const lend = async (nvme: Nvme) => {
    const leases: NvmeLease[] = []
    for (const hand of hands) {
      const lease = await nvme.shareQueue()
      await hand.attach(lease)
      leases.push(lease)
    }
    return leases
  }
  const all = <R>(ask: (hand: Hand, index: number) => Promise<R>) => Promise.all(hands.map(ask))
  const placeOf = (nvme: Nvme, i: number): Place => {
    const each = Math.floor(blocks / workers)
    return { lba: i * each, blocks: each, blockBytes: nvme.namespace(1).blockBytes }
  }

  t.before(() => {
    for (let i = 0; i < workers; i++) hands.push(new Hand())
  })
  t.teardown(() => Promise.all(hands.map(({ worker }) => worker.terminate())))

  for (const irq of irqs) {
    t.test(`${workers} workers read and write at once, by ${irq}`, (t) =>
      withNvme(async (nvme) => {
        t.equal(nvme.irqMode, irq)
        const leases = await lend(nvme)
        t.equal(new Set(leases.map(({ id }) => id)).size, workers, 'a queue each')
        await t.rejects(nvme.shareQueue(), { code: 'ERR_ACCEL_BUSY' })
        await all((hand, i) => hand.ask('soak', placeOf(nvme, i), ios))
        t.strictSame(
          await all((hand) => hand.ask('spin', 20)),
          hands.map(() => 20),
          'without an event loop',
        )
        const fired = await all((hand) => hand.ask('interrupts'))
        if (irq === 'poll') t.ok(fired.every((count) => count === undefined))
        else
          t.ok(
            fired.every((count = 0) => count > 0),
            `${fired} interrupts`,
          )
        await all((hand) => hand.ask('close'))
        await Promise.all(leases.map((lease) => lease.close()))
        const [again] = [await nvme.shareQueue()]
        await hands[0]!.attach(again)
        t.equal(await hands[0]!.ask('read'), 'done', 'a queue that was given back is lent again')
        t.equal(nvme.resets, 0)
        await again.close()
        t.equal(await hands[0]!.ask('read'), 'ERR_ACCEL_CLOSED')
      }, irq),
    )
  }

  t.test('a worker that is terminated in mid-load leaves its queue behind, the others go on', (t) =>
    withNvme(async (nvme, device) => {
      const { mappings } = device.dma
      const leases = await lend(nvme)
      const loads = hands.map((hand, i) => hand.ask('load', placeOf(nvme, i)))
      await all((hand) => hand.progress(20))
      await hands[0]!.worker.terminate()
      await leases[0]!.close()
      await Promise.all(hands.slice(1).map((hand) => hand.progress(20)))
      hands[0] = new Hand()
      const lease = await nvme.shareQueue()
      t.equal(lease.id, leases[0]!.id, 'the queue is made anew')
      await hands[0].attach(lease)
      await hands[0].ask('soak', placeOf(nvme, 0), Math.ceil(ios / 4))
      for (const hand of hands) hand.stop()
      for (const { wrong, end } of await Promise.all(loads.slice(1)))
        t.strictSame({ wrong, end }, { wrong: [], end: undefined })
      t.equal(nvme.resets, 0)
      await Promise.all([lease, ...leases.slice(1)].map((one) => one.close()))
      t.equal(device.dma.mappings, mappings, 'all memory was taken back')
    }),
  )

  t.test('resets in mid-load reach the workers, and nothing that was acknowledged is lost', (t) =>
    withNvme(async (nvme) => {
      await lend(nvme)
      const loads = all((hand, i) => hand.ask('load', placeOf(nvme, i)))
      for (let round = 0; round < 3; round++) {
        await all((hand) => hand.progress(20))
        await nvme.reset(accelError('ERR_ACCEL_AGAIN', 'a reset of the test'))
      }
      await all((hand) => hand.progress(20))
      for (const hand of hands) hand.stop()
      const ends: LoadEnd[] = await loads
      for (const { wrong, end } of ends) t.strictSame({ wrong, end }, { wrong: [], end: undefined })
      const sum = (of: (end: LoadEnd) => number) => ends.reduce((total, end) => total + of(end), 0)
      t.ok(sum(({ refused }) => refused) > 0, 'commands were under way')
      t.comment(
        `3 resets: ${sum(({ acknowledged }) => acknowledged)} writes acknowledged, ${sum(({ refused }) => refused)} to be repeated`,
      )
    }),
  )

  t.test('queues are taken back under load', (t) =>
    withNvme(async (nvme) => {
      const leases = await lend(nvme)
      const loads = all((hand, i) => hand.ask('load', placeOf(nvme, i)))
      await all((hand) => hand.progress(20))
      await Promise.all(leases.map((lease) => lease.close()))
      for (const { end } of await loads) t.equal(end, 'ERR_ACCEL_CLOSED')
      t.equal(nvme.resets, 0)
    }),
  )

  t.test('the device is released with workers at work', async (t) => {
    let loads: Promise<LoadEnd[]> | undefined
    await withNvme(async (nvme) => {
      await lend(nvme)
      loads = all((hand, i) => hand.ask('load', placeOf(nvme, i)))
      await all((hand) => hand.progress(20))
    })
    for (const { end } of await loads!) t.equal(end, 'ERR_ACCEL_NO_DEVICE')
  })
}
