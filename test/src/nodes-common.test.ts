import { join } from 'node:path'
import { openAccel, openBuffers } from '@uaccel/client'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { createSealedMemory, sys } from '@uaccel/sys'
import {
  type Command,
  commonUapi,
  errorTable,
  type FieldDescription,
  isAccelError,
  queryUapi,
  type Reply,
} from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { eventually, held, nodeFolder, startServer } from './nodes.js'

/*
 * Common commands of random but well-formed inputs, and of nearly such ones, over the sockets of several opens at once, to a server with
 * the NPU. What is sent gets past the codec, so that it is buffers, fences, jobs, waits, queries and attributes that are tried; bytes
 * that mean nothing are the matter of nodes-fuzz.test.ts.
 */

/** Random sessions of 4 opens, each of up to 40 commands. */
const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 60)
const OPENS = 4
const CHECK_EVERY = 20

t.setTimeout(200_000 + runs * 1000)

const commands: readonly Command[] = Object.values(commonUapi.commands)
/** What more often finds something to do. */
const weights: Readonly<Record<string, number>> = {
  boCreate: 6,
  fenceCreate: 4,
  submit: 12,
  wait: 6,
  boWait: 4,
  boMmap: 3,
}
const paths = [
  '',
  'state',
  'opens',
  'opens/current',
  'counters/submissions',
  'queues/total',
  'performance/clear',
  'no/such',
]
const jobs = [
  encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 64, pattern: 0x01010101 }]),
  encodeJob([{ op: 'copy', x: { buffer: 0 }, y: { buffer: 1 }, length: 4096 }]),
]

/** What each open makes at first: handles count from 1 on. */
const firstHandles: Readonly<Record<string, readonly number[]>> = { bo: [1, 2], fence: [3, 4] }

/** A descriptor to send with a command: which of those that are there. */
const FILES = 4

/** Values of a field that its codec takes; numbers are mostly such as name something. */
function valuesOf(field: FieldDescription & { readonly name?: string }): fc.Arbitrary<unknown> {
  switch (field.type) {
    case 'bool':
      return fc.boolean()
    case 'handle':
      return fc.oneof(
        { weight: 12, arbitrary: fc.constantFrom(...(firstHandles[field.kind] ?? [])) },
        { weight: 4, arbitrary: fc.nat(8) },
        { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
      )
    case 'u64':
      return fc.oneof(
        { weight: 12, arbitrary: field.name === 'sizeBytes' ? fc.constant(4096n) : fc.constant(0n) },
        { weight: 8, arbitrary: fc.nat(8).map(BigInt) },
        { weight: 4, arbitrary: fc.constantFrom(64n, 4096n, 8192n, 12_288n, 1n << 20n) },
        { weight: 1, arbitrary: fc.constantFrom(2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n) },
        // A moment, of CLOCK_MONOTONIC: some milliseconds from when the session is made.
        { weight: 1, arbitrary: fc.nat(20).map((ms) => process.hrtime.bigint() + BigInt(ms) * 1_000_000n) },
      )
    case 'flags': {
      const names = Object.keys(field.bits)
      return fc.subarray(names).map((set) => Object.fromEntries(set.map((name) => [name, true])))
    }
    case 'enumeration':
      return fc.constantFrom(...Object.keys(field.values))
    case 'bytes':
      return fc.oneof(fc.constantFrom(...jobs), fc.uint8Array({ maxLength: Math.min(field.max, 64) }))
    case 'string':
      return fc.oneof(fc.constantFrom(...paths), fc.string({ maxLength: Math.min(field.max >> 2, 8) }))
    case 'array':
      return fc.array(valuesOf(field.element), { maxLength: Math.min(field.max, 3) })
    case 'struct':
      return structsOf(field.fields)
    case 'fd':
      return fc.nat(FILES - 1)
    case 'f32':
    case 'i64':
      return fc.constant(field.type === 'f32' ? 0 : 0n)
    default: {
      const { min = field.type.startsWith('i') ? -128 : 0, max = field.type.endsWith('8') ? 127 : 0x7fff } =
        field
      if (field.name === 'kind')
        return fc.constantFrom(...Object.values(queryUapi.commands).map((kind) => kind.number))
      if (field.name === 'sizeBytes') return fc.constantFrom(0, 100, 8192)
      return fc.oneof(fc.integer({ min, max }), fc.integer({ min: Math.max(0, min), max: Math.min(4, max) }))
    }
  }
}

function structsOf(fields: readonly (FieldDescription & { readonly name: string })[]) {
  return fc.record(Object.fromEntries(fields.map((field) => [field.name, valuesOf(field)])))
}

const stepOf = (command: Command) =>
  fc.record({
    command: fc.constant(command),
    open: fc.nat(OPENS - 1),
    input: structsOf(command.in.layout.fields.map(({ name, description }) => ({ ...description, name }))),
    /** Bytes that are made something else. */
    changes: fc.oneof(
      { weight: 8, arbitrary: fc.constant([]) },
      {
        weight: 1,
        arbitrary: fc.array(fc.tuple(fc.nat(0xffff), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      },
    ),
    timeoutMs: fc.constantFrom(2, 20, 200),
    /** The answer is waited for before the next command. */
    awaits: fc.boolean(),
    /** A job that runs, or a wait for one that was submitted. */
    sound: fc.boolean(),
    /** It is withdrawn at once. */
    withdrawn: fc.nat(19).map((chance) => chance === 0),
  })

const step = fc.oneof(
  ...commands
    // Which ends all others' jobs; a part of the sessions has one.
    .filter(({ name }) => name !== 'reset')
    .map((command) => ({ weight: weights[command.name] ?? 1, arbitrary: stepOf(command) })),
)
const session = fc.record({
  steps: fc.array(step, { minLength: 4, maxLength: 40 }),
  reset: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(39) }),
  /** What is still under way when the opens close. */
  abandons: fc.boolean(),
})

const folder = nodeFolder(t)
const { process: server } = await startServer(t, 'npu', { folder })
const pid = server.pid!

const open = async () => {
  for (const start = performance.now(); ; ) {
    try {
      return await openAccel(npuUapi, join(folder, 'accel0'))
    } catch (error) {
      // In the reset that somebody asked for.
      if (!isAccelError(error, 'ERR_ACCEL_AGAIN') || performance.now() - start > 20_000) throw error
    }
  }
}

const isWell = async () => {
  await using client = await open()
  return (await client.query('status'))?.state === 'operational'
}

const files = [
  createSealedMemory('uaccel-fuzz-sealed', 8192).fd,
  createSealedMemory('uaccel-fuzz-odd', 5000).fd,
  sys.memfdCreate('uaccel-fuzz-open'),
  sys.eventfd(0),
]

/** Answers by code: what the sessions got to. */
const answers = new Map<string, number>()

t.test(`${runs} sessions of common commands`, { timeout: 150_000 + runs * 1000 }, async (t) => {
  const sockets = () => held(pid).kinds['socket:[N]']
  const unused = sockets()
  await warmUp()
  t.ok(await eventually(() => sockets() === unused))
  const before = things(pid)
  const mine = held(process.pid).fds
  let done = 0
  await fc.assert(
    fc.asyncProperty(session, async ({ steps, reset, abandons }) => {
      const clients = await Promise.all(Array.from({ length: OPENS }, open))
      for (const client of clients) {
        for (const _ of firstHandles.bo!) await client.common('boCreate', { sizeBytes: 8192n, flags: {} })
        for (const _ of firstHandles.fence!)
          await client.common('fenceCreate', { initialValue: 0n, flags: {} })
      }
      const calls: Promise<void>[] = []
      for (const [
        at,
        { command, open: of, input, changes, timeoutMs, awaits, sound, withdrawn },
      ] of steps.entries()) {
        const client = clients[of]!
        if (at === reset)
          calls.push(answered(client.dispatch(commonUapi.commands.reset.number, resetRequest)))
        if (sound) Object.assign(input, soundly(command.name, at))
        const fds: number[] = []
        const bytes = command.in.encode(withFiles(command, input), fds)
        for (const [where, value] of changes) if (bytes.length > 0) bytes[where % bytes.length] = value
        const abort = withdrawn ? AbortSignal.timeout(1) : undefined
        const call = answered(
          client.dispatch(command.number, bytes, { fds, timeoutMs, ...(abort && { signal: abort }) }),
          command,
        )
        if (awaits) await call
        else calls.push(call)
      }
      if (!abandons) await Promise.all(calls)
      await Promise.all(clients.map((client) => client.close()))
      await Promise.all(calls)
      if (++done % CHECK_EVERY === 0 && !(await eventually(isWell))) throw new Error('the server is not well')
    }),
    { numRuns: runs },
  )
  t.ok(await eventually(isWell))
  t.equal(server.exitCode, null)
  t.ok(await eventually(() => JSON.stringify(things(pid)) === JSON.stringify(before)))
  t.same(things(pid), before, 'nothing is left in the server')
  t.ok(await eventually(() => held(process.pid).fds === mine), 'nor of its clients')
  t.ok((answers.get('submit none') ?? 0) > 0, 'jobs were taken')
  t.ok((answers.get('wait none') ?? 0) > 0, 'waits succeeded')
  t.comment(
    [...answers]
      .sort()
      .map(([what, count]) => `${what}: ${count}`)
      .join(', '),
  )
})

/** What a process holds, by kind. */
function things(pid: number): Record<string, number> {
  const { kinds, maps } = held(pid)
  return Object.fromEntries(Object.entries({ ...kinds, maps }).sort())
}

/** The driver makes what it needs for jobs once, when there are some: as many at once as it takes. */
async function warmUp(): Promise<void> {
  await using client = await open()
  const buffers = openBuffers(client)
  const made = await Promise.all(Array.from({ length: 16 }, () => buffers.create(4096)))
  await Promise.all(made.map((buffer) => buffers.run({ buffers: [{ buffer }], payload: jobs[0]! })))
}

/** What makes sense at place `at` of a session: values of fences grow. */
function soundly(name: string, at: number): Record<string, unknown> {
  const buffers = firstHandles.bo!.map((handle) => ({
    handle,
    access: 'readwrite',
    offset: 0n,
    sizeBytes: 4096n,
  }))
  const signal = { fence: firstHandles.fence![at % 2], value: BigInt(at + 1) }
  if (name === 'submit') return { buffers, waits: [], signal, payload: jobs[at % jobs.length], flags: {} }
  if (name === 'wait')
    return { points: [{ ...signal, value: BigInt(at >> 1) }], flags: {}, deadlineNs: 2n ** 63n }
  return {}
}

const resetRequest = commonUapi.commands.reset.in.encode({ kind: 'default', reason: 'fuzz' })

/** Descriptors are made of their places in `files`. */
function withFiles(command: Command, input: Record<string, unknown>) {
  const made = command.in.layout.fields
    .filter(({ description }) => description.type === 'fd')
    .map(({ name }) => [name, files[input[name] as number]])
  return { ...input, ...Object.fromEntries(made) }
}

/** Each answer is what its layout says, or an error of the table; and the connection is never lost. */
async function answered(call: Promise<Reply>, command?: Command): Promise<void> {
  const count = (what: string) => answers.set(what, (answers.get(what) ?? 0) + 1)
  try {
    const { bytes, fds } = await call
    const left = [...fds]
    command?.out.decode(bytes, left)
    for (const fd of fds) sys.close(fd)
    count(`${command?.name} none`)
  } catch (error) {
    if (!isAccelError(error) || !(error.code in errorTable)) throw error
    if (error.code === 'ERR_ACCEL_NO_DEVICE' || error.code === 'ERR_ACCEL_PROTOCOL') throw error
    count(`${command?.name} ${error.code.slice('ERR_ACCEL_'.length)}`)
  }
}
