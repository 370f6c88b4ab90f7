import { Accel, type AccelClient, type ClientBuffers, openBuffers } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import type { Test } from 'tap'
import { encodeSteps, type IrqMode, type Nvme, type NvmeStep, nvmeDriver, nvmeUapi } from '../src/driver.js'

/** How the suite reaches a controller. Its namespace 1 is written to. */
export interface NvmeContractOptions<T extends Transport> {
  /** Reads and writes of the soak. Default 500. */
  readonly ios?: number
  /** Blocks of namespace 1 that it uses from its start. Default 2,048. */
  readonly blocks?: number
  /** Ways to learn of completions that the transport has. Default MSI-X and polling. */
  readonly irqs?: readonly IrqMode[]
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

/** A controller for one test, as its clients see it. */
export interface Bench {
  readonly nvme: Nvme
  readonly client: AccelClient<typeof nvmeUapi>
  readonly buffers: ClientBuffers
  readonly blockBytes: number
}

/** Runs `work` with a controller that was brought up anew by the subsystem. */
export async function withNvme<T extends Transport>(
  open: () => Promise<T>,
  work: (bench: Bench, transport: T) => Promise<void>,
  options: Parameters<typeof nvmeDriver>[0] = {},
): Promise<T> {
  const transport = await open()
  const accel = new Accel()
  try {
    let nvme: Nvme | undefined
    accel.register(nvmeDriver({ ...options, onReady: (ready) => (nvme = ready) }))
    await accel.add(transport)
    const client = accel.open(nvmeUapi, 'accel0')
    const buffers = openBuffers(client)
    await work({ nvme: nvme!, client, buffers, blockBytes: nvme!.namespace(1).blockBytes }, transport)
    await client.close()
  } finally {
    await accel[Symbol.asyncDispose]()
  }
  return transport
}

/** A generator of numbers below a bound: the same each time. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0 // Numerical Recipes' generator
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Puts bytes into memory of which each block says which it is. */
export function fill(bytes: Uint8Array, seed: number): void {
  const next = numbers(seed)
  for (let i = 0; i < bytes.length; i++) bytes[i] = next(256)
}

/** What the NVMe specification and the driver's README promise, on any transport. `open` connects to the controller anew. */
export function nvmeContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  { ios = 500, blocks = 2048, irqs = ['msix', 'poll'], verify }: NvmeContractOptions<T> = {},
): void {
  const test = (
    name: string,
    work: (bench: Bench, t: Test) => Promise<void>,
    irq: IrqMode | 'auto' = 'auto',
  ) =>
    t.test(name, async (t) => {
      const transport = await withNvme(open, (bench) => work(bench, t), { irq })
      verify?.(transport)
    })

  test('identify, namespaces, health', async ({ client, blockBytes }, t) => {
    const identity = await client.call('identify', {})
    t.ok(identity.queues >= 1 && identity.queueDepth >= 1)
    t.ok(identity.maxTransferBytes >= 4096)
    t.not(identity.model, '')
    const { namespaces } = await client.call('namespaces', { after: 0 })
    t.match(namespaces[0], { nsid: 1, blockBytes, usable: true })
    t.ok(namespaces[0]!.blocks >= BigInt(blocks))
    const health = await client.call('health', {})
    t.ok(health.temperatureKelvin > 200 && health.temperatureKelvin < 400, `${health.temperatureKelvin} K`)
  })

  for (const irq of irqs) {
    test(
      `what was written is read, by ${irq}`,
      async ({ buffers, blockBytes, nvme }, t) => {
        t.equal(nvme.irqMode, irq)
        const buffer = await buffers.create(8 * 4096)
        const half = 4 * 4096
        fill(buffer.u8.subarray(0, half), 7)
        const count = half / blockBytes
        const run = (...steps: NvmeStep[]) =>
          buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
        await run({ operation: 'write', buffer: 0, lba: 3, blocks: count })
        await run(
          { operation: 'flush' },
          { operation: 'read', buffer: 0, offset: half, lba: 3, blocks: count },
        )
        t.same(buffer.u8.subarray(half), buffer.u8.subarray(0, half))
      },
      irq,
    )
  }

  test('unaligned buffers, and transfers of all sizes', async ({ buffers, blockBytes, nvme }, t) => {
    const most = Math.min(nvme.identity.maxTransferBytes * 2 + blockBytes, (blocks / 2) * blockBytes)
    const source = await buffers.create(most + 8192)
    const target = await buffers.create(most + 8192)
    fill(source.u8, 11)
    const sizes = [
      1,
      4096 / blockBytes,
      8192 / blockBytes,
      8192 / blockBytes + 1,
      nvme.identity.maxTransferBytes / blockBytes,
    ]
    for (const count of [...sizes, most / blockBytes].map((each) => Math.max(1, Math.floor(each)))) {
      for (const offset of [0, 4, 2048, 4092]) {
        const bytes = count * blockBytes
        if (bytes > most) continue
        target.u8.fill(0xee)
        const to = (offset + 512) % 4096
        await buffers.run({
          buffers: [
            { buffer: source, access: 'read' },
            { buffer: target, access: 'write' },
          ],
          payload: encodeSteps([
            { operation: 'write', buffer: 0, offset, lba: 1, blocks: count, forceUnitAccess: true },
            { operation: 'flush' },
            { operation: 'read', buffer: 1, offset: to, lba: 1, blocks: count },
          ]),
        })
        const same =
          Buffer.compare(target.u8.subarray(to, to + bytes), source.u8.subarray(offset, offset + bytes)) === 0
        const around = target.u8[to + bytes] === 0xee && (to === 0 || target.u8[to - 1] === 0xee)
        if (!same || !around)
          t.fail(`${count} blocks at offset ${offset}: same ${same}, nothing beside touched ${around}`)
      }
    }
    t.pass(`up to ${most} bytes`)
  })

  test('compare, write zeroes, deallocate', async ({ buffers, blockBytes, client }, t) => {
    const { features } = await client.call('identify', {})
    const buffer = await buffers.create(4096)
    const run = (...steps: NvmeStep[]) => buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
    fill(buffer.u8, 13)
    const [lba, count] = [10, 4096 / blockBytes]
    await run({ operation: 'write', buffer: 0, lba, blocks: count })
    if (features.compare) {
      await run({ operation: 'compare', buffer: 0, lba, blocks: count })
      buffer.u8[100] ^= 1
      await t.rejects(run({ operation: 'compare', buffer: 0, lba, blocks: count }), {
        code: 'ERR_ACCEL_IO',
        message: /COMPARE_FAILURE/,
      })
    }
    if (features.writeZeroes) {
      await run({ operation: 'writeZeroes', lba, blocks: count })
      await run({ operation: 'read', buffer: 0, lba, blocks: count })
      t.ok(buffer.u8.every((byte) => byte === 0))
    }
    if (features.deallocate) await run({ operation: 'deallocate', lba, blocks: count })
  })

  test('copies, longer than one command may be', async ({ buffers, blockBytes, client, nvme }, t) => {
    const { features } = await client.call('identify', {})
    const count = Math.floor(blocks / 2) - 3
    const buffer = await buffers.create(count * blockBytes)
    const run = (...steps: NvmeStep[]) => buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
    const copy = {
      operation: 'copy',
      source: 1,
      lba: count + 5,
      blocks: count,
      forceUnitAccess: true,
    } as const
    if (!features.copy) {
      await t.rejects(run(copy), { code: 'ERR_ACCEL_UNSUPPORTED' })
      return
    }
    const bytes = buffer.u8.subarray(0, count * blockBytes)
    fill(bytes, 19)
    await run({ operation: 'write', buffer: 0, lba: 1, blocks: count }, { operation: 'flush' }, copy)
    const written = Uint8Array.from(bytes)
    for (const lba of [copy.source, copy.lba]) {
      bytes.fill(0)
      await run({ operation: 'read', buffer: 0, lba, blocks: count })
      t.ok(Buffer.compare(bytes, written) === 0, `${count} blocks from ${lba} on`)
    }
    const { copy: most } = nvme.namespace(1)
    t.comment(`one copy: ${most.ranges} ranges of ${most.rangeBlocks} blocks, ${most.blocks} blocks`)
    const end = nvme.namespace(1).blocks
    await t.rejects(run({ ...copy, lba: count }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, 'they overlap')
    await t.rejects(run({ ...copy, source: end }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    await t.rejects(run({ ...copy, lba: end }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    await t.rejects(run({ operation: 'read', buffer: 0, lba: 0, blocks: 1, source: 1 }), {
      code: 'ERR_ACCEL_RESERVED',
    })
  })

  test('what is refused, and nothing begun', async ({ buffers, client, blockBytes, nvme }, t) => {
    const buffer = await buffers.create(4096)
    const end = nvme.namespace(1).blocks
    const run = (step: NvmeStep, access: 'read' | 'write' | 'readwrite' = 'readwrite') =>
      buffers.run({ buffers: [{ buffer, access }], payload: encodeSteps([step]) })
    const read = { operation: 'read', buffer: 0, lba: 0, blocks: 1 } as const
    await run({ ...read, lba: end - 1n })
    const cases: readonly [string, NvmeStep, string, 'read' | 'write' | 'readwrite'][] = [
      ['one block past the end', { ...read, lba: end }, 'ERR_ACCEL_OUT_OF_RANGE', 'readwrite'],
      ['over the end', { ...read, lba: end - 1n, blocks: 2 }, 'ERR_ACCEL_OUT_OF_RANGE', 'readwrite'],
      ['no blocks', { ...read, blocks: 0 }, 'ERR_ACCEL_OUT_OF_RANGE', 'readwrite'],
      [
        'far beyond 64 bits of blocks',
        { ...read, lba: 2n ** 64n - 1n },
        'ERR_ACCEL_OUT_OF_RANGE',
        'readwrite',
      ],
      ['over the buffer', { ...read, blocks: 4096 / blockBytes + 1 }, 'ERR_ACCEL_OUT_OF_RANGE', 'readwrite'],
      [
        'offset of the buffer',
        { ...read, offset: 4 + 4096 - blockBytes },
        'ERR_ACCEL_OUT_OF_RANGE',
        'readwrite',
      ],
      ['no such buffer', { ...read, buffer: 1 }, 'ERR_ACCEL_OUT_OF_RANGE', 'readwrite'],
      ['no such namespace', { ...read, nsid: 77 }, 'ERR_ACCEL_NOT_FOUND', 'readwrite'],
      ['all namespaces', { ...read, nsid: 0xffff_ffff }, 'ERR_ACCEL_NOT_FOUND', 'readwrite'],
      ['a buffer that may not be written', read, 'ERR_ACCEL_PERMISSION', 'read'],
      ['a buffer that may not be read', { ...read, operation: 'write' }, 'ERR_ACCEL_PERMISSION', 'write'],
      ['a flush with blocks', { operation: 'flush', blocks: 1 }, 'ERR_ACCEL_RESERVED', 'readwrite'],
      ['a flush with a buffer', { operation: 'flush', buffer: 0 }, 'ERR_ACCEL_RESERVED', 'readwrite'],
    ]
    if (blockBytes < 4096)
      await t.rejects(
        run({ ...read, offset: 2 }),
        { code: 'ERR_ACCEL_INVALID_ARGUMENT' },
        'not on a multiple of 4',
      )
    for (const [name, step, code, access] of cases) await t.rejects(run(step, access), { code }, name)
    await t.rejects(buffers.run({ buffers: [{ buffer }], payload: new Uint8Array(3) }), {
      code: 'ERR_ACCEL_BAD_SIZE',
    })
    const raw = {
      nsid: 0,
      cdw10: 1,
      cdw11: 0,
      cdw12: 0,
      cdw13: 0,
      cdw14: 0,
      cdw15: 0,
      data: new Uint8Array(),
    }
    for (const opcode of [0x00, 0x01, 0x04, 0x05, 0x0c, 0x7c, 0xc0])
      await t.rejects(client.call('admin', { ...raw, opcode }), { code: 'ERR_ACCEL_UNSUPPORTED' })
    await t.rejects(client.call('admin', { ...raw, opcode: 2, cdw10: 0xffff_0002 }), {
      code: 'ERR_ACCEL_OUT_OF_RANGE',
    })
    const { data } = await client.call('admin', { ...raw, opcode: 6 })
    t.equal(data.length, 4096)
    t.equal(Buffer.from(data.subarray(24, 64)).toString().trim(), nvme.identity.model, 'raw identify')
  })

  test(`${ios} random reads and writes on all queues`, async ({ buffers, blockBytes, nvme }, t) => {
    const PER_JOB = 16
    const LANES = 8
    const perLane = Math.floor(blocks / LANES)
    const runLane = async (lane: number) => {
      const next = numbers(lane + 1)
      const most = Math.min(perLane, 16)
      const image = new Uint8Array(perLane * blockBytes)
      const buffer = await buffers.create(PER_JOB * most * blockBytes)
      const base = lane * perLane
      const run = (steps: NvmeStep[]) => buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
      for (let at = 0; at < perLane; at += most * PER_JOB)
        await run([
          { operation: 'write', buffer: 0, lba: base + at, blocks: Math.min(most * PER_JOB, perLane - at) },
        ])
      for (let done = 0; done < ios / LANES; done += PER_JOB) {
        const write = next(2) === 0
        // A job's steps run in any order: each gets a part of the lane for itself.
        const part = Math.floor(perLane / PER_JOB)
        const steps = Array.from({ length: PER_JOB }, (_, i) => {
          const count = 1 + next(Math.min(most, part))
          const lba = i * part + next(part - count + 1)
          return {
            operation: write ? 'write' : 'read',
            buffer: 0,
            offset: i * most * blockBytes,
            lba: base + lba,
            blocks: count,
          } as const
        })
        if (write) fill(buffer.u8, lane * 1000 + done)
        else buffer.u8.fill(0xee)
        await run(steps)
        for (const { offset, lba, blocks } of steps) {
          const place = (lba - base) * blockBytes
          const bytes = buffer.u8.subarray(offset, offset + blocks * blockBytes)
          if (write) image.set(bytes, place)
          else if (Buffer.compare(bytes, image.subarray(place, place + bytes.length)) !== 0)
            throw new Error(`${blocks} blocks from ${lba} on are not what was written`)
        }
      }
      await buffer.destroy()
    }
    await Promise.all(Array.from({ length: LANES }, (_, lane) => runLane(lane)))
    const used = nvme.queues.filter(({ completions }) => completions > 0).length
    t.equal(used, nvme.queues.length, 'each queue was used')
    t.ok(nvme.queues.every(({ inFlight }) => inFlight === 0))
  })

  test('a reset under load loses nothing that was acknowledged', async ({
    buffers,
    blockBytes,
    client,
    nvme,
  }, t) => {
    const buffer = await buffers.create(64 * blockBytes)
    fill(buffer.u8, 17)
    const written = new Set<number>()
    let refused = 0
    const load = async (from: number) => {
      for (let lba = from; lba < 64; lba += 4) {
        try {
          await buffers.run({
            buffers: [{ buffer }],
            payload: encodeSteps([
              { operation: 'write', buffer: 0, offset: lba * blockBytes, lba, blocks: 1 },
            ]),
          })
          written.add(lba)
        } catch (error) {
          if ((error as { code?: string }).code !== 'ERR_ACCEL_AGAIN') throw error
          refused++
        }
      }
    }
    await Promise.all([load(0), load(1), load(2), load(3), client.call('reset', {})])
    t.equal(nvme.resets, 1)
    t.equal(written.size + refused, 64)
    const found = await buffers.create(64 * blockBytes)
    await buffers.run({
      buffers: [{ buffer: found }],
      payload: encodeSteps([{ operation: 'read', buffer: 0, lba: 0, blocks: 64 }]),
    })
    for (const lba of written) {
      const part = [found, buffer].map(({ u8 }) => u8.subarray(lba * blockBytes, (lba + 1) * blockBytes))
      if (Buffer.compare(part[0]!, part[1]!) !== 0) t.fail(`block ${lba} was acknowledged and is not there`)
    }
    t.pass(`${written.size} acknowledged, ${refused} to be repeated`)
  })
}
