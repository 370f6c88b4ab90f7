import type { Transport } from '@uaccel/core'
import type { Test } from 'tap'
import { encodeSteps, type IrqMode, type NvmeStep, statusError, statusName } from '../src/driver.js'
import { type Bench, withNvme } from './bench.js'
import { fill } from './numbers.js'
import { resetsUnderLoad, soak } from './soak.js'

export { type Bench, withNvme } from './bench.js'
export { fill, numbers } from './numbers.js'
export { type NvmeWorkersContractOptions, nvmeWorkersContract } from './workers.js'

/** How the suite reaches a controller. Its namespace 1 is written to. */
export interface NvmeContractOptions<T extends Transport> {
  /** Reads and writes of the soak. Default 500. */
  readonly ios?: number
  /** Blocks of namespace 1 that it uses from its start. Default 2,048. */
  readonly blocks?: number
  /** Ways to learn of completions that the transport has. Default MSI-X and polling. */
  readonly irqs?: readonly IrqMode[]
  /** The status of a compare that finds a difference. Default COMPARE_FAILURE; SPDK's target of before 26.05 says INTERNAL_ERROR. */
  readonly miscompare?: RegExp
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

/** What the NVMe specification and the driver's README promise, on any transport. `open` connects to the controller anew. */
export function nvmeContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  {
    ios = 500,
    blocks = 2048,
    irqs = ['msix', 'poll'],
    miscompare = /COMPARE_FAILURE/,
    verify,
  }: NvmeContractOptions<T> = {},
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
    // SPDK's target measures none, and reports 0.
    const { temperatureKelvin } = health
    t.ok(
      temperatureKelvin === 0 || (temperatureKelvin > 200 && temperatureKelvin < 400),
      `${temperatureKelvin} K`,
    )
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
        // Of memory that may be larger than was asked for; not by t.same, which takes long where they differ.
        t.equal(Buffer.compare(buffer.u8.subarray(half, 2 * half), buffer.u8.subarray(0, half)), 0)
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
        message: miscompare,
      })
    }
    if (features.writeZeroes) {
      await run({ operation: 'writeZeroes', lba, blocks: count })
      await run({ operation: 'read', buffer: 0, lba, blocks: count })
      t.ok(buffer.u8.subarray(0, 4096).every((byte) => byte === 0))
    }
    if (features.deallocate) await run({ operation: 'deallocate', lba, blocks: count })
  })

  test('copies, longer than one command may be', async ({ buffers, blockBytes, client, nvme }, t) => {
    const { features } = await client.call('identify', {})
    const count = Math.floor(blocks / 2) - 3
    const buffer = await buffers.create(count * blockBytes)
    const run = (...steps: NvmeStep[]) => buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
    const { copy: most, blocks: end } = nvme.namespace(1)
    t.comment(`one copy: ${most.ranges} ranges of ${most.rangeBlocks} blocks, ${most.blocks} blocks`)
    const copy = {
      operation: 'copy',
      source: 1,
      lba: count + 5,
      blocks: count,
      forceUnitAccess: true,
    } as const
    if (!features.copy || most.blocks * most.rangeBlocks === 0) {
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
      buffers.run({ buffers: [{ buffer, access, sizeBytes: 4096 }], payload: encodeSteps([step]) })
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

  test('one block past the end: the device refuses it, too', async ({ nvme, blockBytes }, t) => {
    const data = nvme.allocate(blockBytes)
    const queue = nvme.pickQueue()
    const end = Number(nvme.namespace(1).blocks)
    const statusOf = (lba: number) =>
      new Promise<number>((resolve, reject) => {
        const listener = {
          completed: (_: number, status: number) => resolve(status),
          failed: (_: number, error: Error) => reject(error),
        }
        const { iovaLow, iovaHigh } = data
        queue.submit(
          2,
          1,
          iovaLow | 0,
          iovaHigh | 0,
          blockBytes,
          lba | 0,
          Math.floor(lba / 2 ** 32),
          0,
          listener,
        )
        nvme.kick(queue)
      })
    t.equal(await statusOf(end - 1), 0)
    const status = await statusOf(end)
    t.equal(statusName(status), 'LBA_OUT_OF_RANGE')
    t.match(statusError('read', status), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /LBA_OUT_OF_RANGE/ })
    data.free()
  })

  test(`${ios} random reads and writes on all queues`, (bench, t) => soak(bench, t, ios, blocks))

  test('resets under load lose nothing that was acknowledged', (bench, t) =>
    resetsUnderLoad(bench, t, Math.max(400, Math.floor(ios / 100)), blocks))
}
