import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import type { NpuContext } from '../src/context.js'
import type { NpuJob } from '../src/job.js'
import { type Case, cases, type Places } from './cases.js'
import { tensorCases } from './tensor-cases.js'

// What worker threads check as well: it imports little, since a thread in the lab takes seconds to load it.

/** Room for the largest tensor of a case. */
const TENSOR_BYTES = 56 * 1024

/** Buffers for the tensors of one case. */
export function places(context: NpuContext, place: 'host' | 'card' = 'host'): Places {
  const at = () => ({ buffer: context.allocate(TENSOR_BYTES, { place }), offset: 64 })
  return { a: at(), b: at(), c: at(), d: at() }
}

/** Puts a case's inputs where the device finds them, and bytes that no result has where it will write. */
export function prepare(context: NpuContext, { inputs, expected, step }: Case, at: Places): NpuJob {
  for (const name of ['a', 'b', 'c'] as const) {
    const bytes = inputs[name]
    if (bytes !== undefined) at[name].buffer.write(at[name].offset!, bytes)
  }
  at.d.buffer.write(0, new Uint8Array(expected.length + 128).fill(0xee))
  return context.encode([step(at)])
}

/** Compares the output with the reference's, and what lies before and behind it with what was there. */
export function checkResult({ expected, tolerance }: Case, at: Places): void {
  const found = new Uint8Array(expected.length + 128)
  at.d.buffer.read(0, found)
  const wanted = new Uint8Array(found.length).fill(0xee)
  wanted.set(expected, 64)
  if (tolerance !== undefined) {
    checkClose(new Float32Array(found.buffer), new Float32Array(wanted.buffer), tolerance)
    return
  }
  const wrong = found.findIndex((byte, i) => byte !== wanted[i])
  if (wrong < 0) return
  throw new Error(
    `byte ${wrong - 64} of ${expected.length} is ${found[wrong]}, the reference says ${wanted[wrong]}`,
  )
}

function checkClose(
  found: Float32Array,
  wanted: Float32Array,
  [absolute, relative]: NonNullable<Case['tolerance']>,
): void {
  const wrong = found.findIndex((value, i) => {
    const other = wanted[i]
    if (Object.is(value, other) || value === other) return false
    return !(Math.abs(value - other) <= Math.max(absolute, relative * Math.abs(other)))
  })
  if (wrong < 0) return
  throw new Error(
    `word ${wrong - 16} of ${found.length - 32} is ${found[wrong]}, the reference says ${wanted[wrong]}`,
  )
}

/** Runs random cases of one operation; rejects with the smallest that differs from the reference. */
export async function checkOperation(context: NpuContext, name: string, numRuns: number): Promise<void> {
  const at = places(context)
  await fc.assert(
    fc.asyncProperty(cases[name] ?? tensorCases[name], async (one) => {
      const job = prepare(context, one, at)
      try {
        await context.run(job)
      } finally {
        job.free()
      }
      checkResult(one, at)
    }),
    { numRuns, includeErrorInReport: true },
  )
  for (const { buffer } of Object.values(at)) buffer.free()
}

/** The name of the status that a run ended with, or the code of another error. */
export async function endOf(run: Promise<unknown>): Promise<string> {
  try {
    await run
    return 'SUCCESS'
  } catch (error) {
    if (!isAccelError(error)) throw error
    const { status, detail } = (error.details ?? {}) as { status?: string; detail?: number }
    return status === undefined ? error.code : `${status} ${detail}`
  }
}
