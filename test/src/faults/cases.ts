import { setTimeout as sleep } from 'node:timers/promises'
import type { NpuContext } from '@uaccel/driver-npu'
import { type Bench, endOf } from './bench.js'
import type { DeviceName, FaultName } from './models.js'

/** What a case found: what ended how, and how long after the fault, in ms. */
export interface Outcome {
  readonly codes: readonly string[]
  readonly afterMs: number
}

/** One misfortune of one device. */
export interface FaultCase {
  readonly device: DeviceName
  readonly fault: string
  /** How each call or job has to end: one of these. */
  readonly ends: readonly string[]
  /** Within how many ms of the fault, or where it is one that has to be noticed, of its detection. */
  readonly withinMs: number
  /** Has the fault befall the device while it works. */
  suffer(bench: Bench): Promise<Outcome>
  /** Whether the device works afterwards, or is gone with the reason. */
  readonly afterwards: 'works' | 'gone'
}

/** In flight when the fault comes. */
const JOBS = 256
/** A factorial that a model takes two seconds for. */
const LONG = 2 ** 31
const CALL = { timeoutMs: 100 }

/** Calls of edu, of which the first is in the device and the others wait. */
function calls({ edu }: Bench, count = 8, n = LONG) {
  return Array.from({ length: count }, () => endOf(edu.call('factorial', { n })))
}

/** Jobs of an NPU that do not end on their own: its queue hangs at the first. */
async function jobs({ npu, victim }: Bench): Promise<ReturnType<typeof endOf>[]> {
  const context = await npu.createContext({ ringEntries: 512 })
  const job = fillJob(context)
  await victim.befall('hang')
  return Array.from({ length: JOBS }, () => endOf(context.run(job)))
}

function fillJob(context: NpuContext) {
  const buffer = context.allocate(64)
  return context.encode([{ op: 'fill', y: { buffer }, length: 64, pattern: 0x01010101 }])
}

/** Has a fault befall the NPU before it gets a job, and mends what has to be mended afterwards. */
async function oneJob(
  { npu, victim }: Bench,
  fault: FaultName,
  mend?: (context: NpuContext) => Promise<void>,
): Promise<Outcome> {
  const context = await npu.createContext()
  const job = fillJob(context)
  await victim.befall(fault)
  const result = await outcome(performance.now(), [endOf(context.run(job, { timeoutMs: 200 }))])
  await mend?.(context)
  await context.close()
  return result
}

async function outcome(start: number, ends: readonly ReturnType<typeof endOf>[]): Promise<Outcome> {
  const all = await Promise.all(ends)
  return {
    codes: [...new Set(all.map(({ code }) => code))],
    afterMs: Math.max(...all.map(({ at }) => at)) - start,
  }
}

/** Has `fault` befall the device under its work, and waits for the end of that. */
async function under(
  bench: Bench,
  work: readonly ReturnType<typeof endOf>[],
  strike: () => unknown,
): Promise<Outcome> {
  await sleep(20) // the work has reached the device
  const start = performance.now()
  await strike()
  const { codes, afterMs } = await outcome(start, work)
  return { codes, afterMs: bench.detectedAt === undefined ? afterMs : start + afterMs - bench.detectedAt }
}

export const faultCases: readonly FaultCase[] = [
  {
    device: 'edu',
    fault: 'a lost interrupt',
    ends: ['ERR_ACCEL_TIMEOUT'],
    withinMs: 1000,
    async suffer({ edu, victim }) {
      await victim.befall('lostInterrupt')
      return outcome(performance.now(), [endOf(edu.call('factorial', { n: 5 }, CALL))])
    },
    afterwards: 'works',
  },
  {
    device: 'npu',
    fault: 'a lost interrupt',
    ends: ['done'],
    withinMs: 1000,
    suffer: (bench) => oneJob(bench, 'lostInterrupt'),
    afterwards: 'works',
  },
  {
    device: 'edu',
    fault: 'spurious interrupts',
    ends: ['done'],
    withinMs: 1000,
    async suffer({ edu, victim }) {
      const start = performance.now()
      const work = Array.from({ length: 8 }, () => endOf(edu.call('factorial', { n: 5 })))
      for (let i = 0; i < 5; i++) await victim.befall('spuriousInterrupt')
      return outcome(start, work)
    },
    afterwards: 'works',
  },
  {
    device: 'npu',
    fault: 'spurious interrupts',
    ends: ['done'],
    withinMs: 1000,
    async suffer({ npu, victim }) {
      const context = await npu.createContext()
      const job = fillJob(context)
      const start = performance.now()
      const work = Array.from({ length: 8 }, () => endOf(context.run(job)))
      for (let vector = 0; vector < 3; vector++) await victim.befall('spuriousInterrupt', vector)
      const result = await outcome(start, work)
      await context.close()
      return result
    },
    afterwards: 'works',
  },
  {
    device: 'edu',
    fault: 'a hang',
    ends: ['ERR_ACCEL_TIMEOUT'],
    withinMs: 1000,
    async suffer({ edu, victim }) {
      await victim.befall('hang')
      const result = await outcome(performance.now(), [endOf(edu.call('factorial', { n: 5 }, CALL))])
      await victim.befall('hang', false)
      return result
    },
    afterwards: 'works',
  },
  {
    device: 'npu',
    fault: 'a hang',
    ends: ['ERR_ACCEL_TIMEOUT'],
    withinMs: 1000,
    suffer: (bench) =>
      oneJob(bench, 'hang', async () => {
        await bench.victim.befall('hang', false)
        await bench.npu.recover()
      }),
    afterwards: 'works',
  },
  {
    device: 'npu',
    fault: 'an error of DMA',
    ends: ['ERR_ACCEL_DMA_FAULT', 'ERR_ACCEL_IO'],
    withinMs: 1000,
    suffer: (bench) =>
      oneJob(bench, 'dmaError', async ({ failure }) => {
        if (failure !== undefined) await bench.npu.recover()
      }),
    afterwards: 'works',
  },
  {
    device: 'edu',
    fault: 'a reset under load',
    // What waits for its turn goes on after the reset.
    ends: ['ERR_ACCEL_IO', 'done'],
    withinMs: 1000,
    suffer: (bench) =>
      under(bench, [...calls(bench, 1), ...calls(bench, 7, 5)], () => bench.accel.node('accel0').reset()),
    afterwards: 'works',
  },
  {
    device: 'npu',
    fault: 'a reset under load',
    ends: ['ERR_ACCEL_IO', 'ERR_ACCEL_CLOSED'],
    withinMs: 1000,
    async suffer(bench) {
      const work = await jobs(bench)
      return under(bench, work, async () => {
        const reset = bench.accel.node('accel0').reset()
        await bench.victim.befall('hang', false) // by now no job can end any more; a device that hangs does not get ready
        await reset
      })
    },
    afterwards: 'works',
  },
  ...(['edu', 'npu'] as const).flatMap((device): FaultCase[] => {
    const strike = async (bench: Bench, fault: 'request' | 'vanish' | 'allOnes') => {
      const work = device === 'edu' ? calls(bench) : await jobs(bench)
      return under(bench, work, () => bench.victim.befall(fault))
    }
    return [
      {
        device,
        fault: 'a request to give the device back, in mid-command',
        ends: ['ERR_ACCEL_NO_DEVICE'],
        withinMs: 100,
        suffer: (bench) => strike(bench, 'request'),
        afterwards: 'gone',
      },
      {
        device,
        fault: 'a device that vanishes',
        ends: ['ERR_ACCEL_NO_DEVICE'],
        withinMs: 100,
        suffer: (bench) => strike(bench, 'vanish'),
        afterwards: 'gone',
      },
      {
        device,
        fault: 'all ones',
        // Nothing tells of it: the NPU's watch sees it, and with edu a caller's limit has to pass first.
        ends: device === 'npu' ? ['ERR_ACCEL_NO_DEVICE'] : ['ERR_ACCEL_TIMEOUT', 'ERR_ACCEL_NO_DEVICE'],
        withinMs: 100,
        suffer: (bench) =>
          device === 'npu'
            ? strike(bench, 'allOnes')
            : under(bench, [endOf(bench.edu.call('factorial', { n: LONG }, { timeoutMs: 200 }))], () =>
                bench.victim.befall('allOnes'),
              ),
        afterwards: 'gone',
      },
    ]
  }),
]
