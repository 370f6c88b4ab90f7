import type { Test } from 'tap'
import { encodeSteps, type NvmeStep } from '../src/driver.js'
import type { Bench } from './bench.js'
import { fill, numbers } from './numbers.js'

const LANES = 8
const PER_JOB = 16
/** Blocks of the largest transfer of the soak. */
const MOST = 16
const PAGE = 4096

/**
 * `ios` reads and writes of random blocks, of random length and place in memory, on all queues at once. What is read is held against what was
 * written last.
 */
export async function soak(
  { buffers, blockBytes, nvme }: Bench,
  t: Test,
  ios: number,
  blocks: number,
): Promise<void> {
  const perLane = Math.floor(blocks / LANES)
  // A job's steps run in any order: each gets a part of the lane for itself.
  const part = Math.floor(perLane / PER_JOB)
  const most = Math.min(MOST, part)
  const slotBytes = most * blockBytes + PAGE
  let done = 0
  const runLane = async (lane: number) => {
    const next = numbers(lane + 1)
    const base = lane * perLane
    const image = new Uint8Array(perLane * blockBytes)
    const buffer = await buffers.create(PER_JOB * slotBytes)
    const run = (steps: NvmeStep[]) => buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
    const zeroes = Array.from({ length: Math.ceil(perLane / most) }, (_, i) => {
      const lba = i * most
      return {
        operation: 'write',
        buffer: 0,
        lba: base + lba,
        blocks: Math.min(most, perLane - lba),
      } as const
    })
    for (let i = 0; i < zeroes.length; i += PER_JOB) await run(zeroes.slice(i, i + PER_JOB))
    for (let begun = 0; begun < ios / LANES; begun += PER_JOB) {
      const steps = Array.from({ length: PER_JOB }, (_, i) => {
        const count = 1 + next(most)
        return {
          operation: next(2) === 0 ? 'write' : 'read',
          buffer: 0,
          offset: i * slotBytes + 4 * next(PAGE / 4),
          lba: base + i * part + next(part - count + 1),
          blocks: count,
        } as const
      })
      const bytesOf = ({ offset, blocks }: (typeof steps)[number]) =>
        buffer.u8.subarray(offset, offset + blocks * blockBytes)
      const imageOf = ({ lba, blocks }: (typeof steps)[number]) =>
        image.subarray((lba - base) * blockBytes, (lba - base + blocks) * blockBytes)
      for (const [i, step] of steps.entries()) {
        if (step.operation === 'write') fill(bytesOf(step), lane * ios + begun + i)
        else bytesOf(step).fill(0xee)
      }
      await run(steps)
      done += PER_JOB
      for (const step of steps) {
        if (step.operation === 'write') imageOf(step).set(bytesOf(step))
        else if (Buffer.compare(bytesOf(step), imageOf(step)) !== 0)
          throw new Error(`${step.blocks} blocks from ${step.lba} on are not what was written`)
      }
    }
    await buffer.destroy()
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: LANES }, (_, lane) => runLane(lane)))
  const seconds = (performance.now() - start) / 1000
  t.comment(
    `${done} reads and writes on ${nvme.queues.length} queues in ${seconds.toFixed(1)} s, each verified`,
  )
  const used = nvme.queues.filter(({ completions }) => completions > 0).length
  t.equal(used, nvme.queues.length, 'each queue was used')
  t.ok(nvme.queues.every(({ inFlight }) => inFlight === 0))
}

/**
 * The controller is reset again and again while eight users write, `writes` in all. What a block has afterwards is what was acknowledged last, or
 * what was under way when the reset came, whole.
 */
export async function resetsUnderLoad(
  { buffers, blockBytes, client, nvme }: Bench,
  t: Test,
  writes: number,
  blocks: number,
): Promise<void> {
  const RESETS = 4
  const used = Math.min(blocks, 64)
  const acknowledged = new Int32Array(used).fill(-1)
  const begun = new Int32Array(used).fill(-1)
  const seedOf = (lba: number, version: number) => lba + version * used
  let left = writes
  let [done, refused, underWay] = [0, 0, 0]
  const load = async (lane: number) => {
    const next = numbers(lane + 99)
    const buffer = await buffers.create(blockBytes)
    const step = { operation: 'write', buffer: 0, blocks: 1 } as const
    // Goes on until all resets were under way.
    while (left-- > 0 || nvme.resets < RESETS) {
      const lba = lane + LANES * next(used / LANES)
      const version = ++begun[lba]
      fill(buffer.u8.subarray(0, blockBytes), seedOf(lba, version))
      try {
        await buffers.run({ buffers: [{ buffer }], payload: encodeSteps([{ ...step, lba }]) })
        acknowledged[lba] = version
        done++
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_ACCEL_AGAIN') throw error
        refused++
      }
    }
    await buffer.destroy()
  }
  const resets = async () => {
    for (let i = 1; i <= RESETS; i++) {
      while (done < (i * writes) / (RESETS + 1)) await new Promise((resolve) => setImmediate(resolve))
      for (const { inFlight } of nvme.queues) underWay += inFlight
      await client.call('reset', {})
    }
  }
  await Promise.all([resets(), ...Array.from({ length: LANES }, (_, lane) => load(lane))])
  t.equal(nvme.resets, RESETS)
  const found = await buffers.create(used * blockBytes)
  const payload = encodeSteps([{ operation: 'read', buffer: 0, lba: 0, blocks: used }])
  await buffers.run({ buffers: [{ buffer: found }], payload })
  const expected = new Uint8Array(blockBytes)
  for (let lba = 0; lba < used; lba++) {
    if (acknowledged[lba] < 0) continue
    const bytes = found.u8.subarray(lba * blockBytes, (lba + 1) * blockBytes)
    const versions = Array.from(
      { length: begun[lba] - acknowledged[lba] + 1 },
      (_, i) => acknowledged[lba] + i,
    )
    const there = versions.some((version) => {
      fill(expected, seedOf(lba, version))
      return Buffer.compare(bytes, expected) === 0
    })
    if (!there)
      t.fail(
        `block ${lba} does not have version ${acknowledged[lba]}, which was acknowledged, nor a later one`,
      )
  }
  t.ok(underWay > 0, `${underWay} commands were under way`)
  t.comment(`${RESETS} resets: ${done} writes acknowledged, ${refused} to be repeated`)
}
