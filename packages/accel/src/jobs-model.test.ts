import { accelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { bo, codeOf, createBo, held, inMs, jobOf, send, toy, turn, waitFor } from './work.test.helper.js'

/** Random graphs of jobs; a longer run with a higher number. */
const RUNS = Number(process.env.UACCEL_JOB_RUNS ?? 150)

t.setTimeout(300_000)

const OPENS = 3
const BUFFERS = 3
const FENCES = 2

type Access = 'read' | 'write' | 'readwrite'

const pick = fc.nat(1000)
const submit = fc.record({
  kind: fc.constant('submit' as const),
  open: fc.nat(OPENS - 1),
  uses: fc.array(
    fc.tuple(fc.nat(BUFFERS - 1), fc.constantFrom<Access>('read', 'read', 'write', 'readwrite')),
    { maxLength: 2 },
  ),
  // A fence, and how far below what is promised.
  waits: fc.array(fc.tuple(fc.nat(FENCES - 1), fc.nat(3)), { maxLength: 2 }),
  signal: fc.option(fc.tuple(fc.nat(FENCES - 1), fc.integer({ min: 1, max: 3 }))),
})
const end = fc.record({
  kind: fc.constant('end' as const),
  which: pick,
  fails: fc.nat(3).map((n) => n === 0),
})
const destroy = fc.record({ kind: fc.constant('destroy' as const), open: fc.nat(OPENS - 1), which: pick })
const close = fc.record({ kind: fc.constant('close' as const), open: fc.nat(OPENS - 1) })
const step = fc.oneof(
  { arbitrary: submit, weight: 10 },
  { arbitrary: end, weight: 8 },
  { arbitrary: destroy, weight: 1 },
  { arbitrary: close, weight: 1 },
)

/** A job as the reference sees it. */
interface Known {
  readonly open: number
  readonly mark: number
  readonly uses: readonly (readonly [buffer: number, access: Access])[]
  readonly waits: readonly (readonly [fence: number, value: number])[]
  readonly signal: readonly [fence: number, value: number] | undefined
  state: 'waits' | 'runs' | 'ended' | 'failed' | 'dropped'
}

/**
 * What must hold, worked out anew from the list of all jobs each time: slow, and with nothing in common with the scheduler.
 */
class Reference {
  readonly jobs: Known[] = []
  readonly depth: number
  constructor(depth: number) {
    this.depth = depth
  }

  promised(open: number, fence: number): number {
    const values = this.jobs.filter((job) => job.open === open && job.signal?.[0] === fence)
    return Math.max(0, ...values.map(({ signal }) => signal![1]))
  }

  value(open: number, fence: number): number {
    const on = this.jobs.filter((job) => job.open === open && job.signal?.[0] === fence)
    let reached = 0
    for (const { state, signal } of on) {
      if (state === 'waits' || state === 'runs') break
      reached = signal![1]
    }
    return reached
  }

  /** True where the job that covers the value failed. */
  failed(open: number, fence: number, value: number): boolean {
    const on = this.jobs.filter((job) => job.open === open && job.signal?.[0] === fence)
    return on.find(({ signal }) => signal![1] >= value)?.state === 'failed' && value > 0
  }

  reached({ open, waits }: Known): boolean {
    return waits.every(([fence, value]) => this.value(open, fence) >= value)
  }

  poisoned({ open, waits }: Known): boolean {
    return waits.some(([fence, value]) => this.failed(open, fence, value))
  }

  conflicts(a: Known, b: Known): boolean {
    return (
      a.open === b.open &&
      a.uses.some(([one, access]) =>
        b.uses.some(([two, other]) => one === two && (access !== 'read' || other !== 'read')),
      )
    )
  }

  running(): Known[] {
    return this.jobs.filter(({ state }) => state === 'runs')
  }

  startable(job: Known): boolean {
    const before = this.jobs.slice(0, this.jobs.indexOf(job))
    if (before.some(({ open, state }) => open === job.open && state === 'waits')) return false
    return this.reached(job) && !this.running().some((other) => this.conflicts(job, other))
  }
}

t.test('random graphs of jobs and fences keep to the rules', async (t) => {
  const before = held()
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 3 }),
      fc.array(step, { maxLength: 60 }),
      async (depth, steps) => {
        const ends: (() => Promise<void>)[] = []
        const { open, taken, transport, node, log } = await toy(
          { teardown: (act) => void ends.push(act) },
          { depth, quotas: {} },
        )
        const reference = new Reference(depth)
        const clients = Array.from({ length: OPENS }, open)
        const handles = await Promise.all(
          clients.map((client) => Promise.all(Array.from({ length: BUFFERS }, () => createBo(client)))),
        )
        const fences = await Promise.all(
          clients.map((client) =>
            Promise.all(
              Array.from({ length: FENCES }, () =>
                send(client, 'fenceCreate', { initialValue: 0n, flags: {} }),
              ),
            ),
          ),
        )
        const gone = new Set<number>()
        const destroyed = new Set<string>()
        let seen = 0
        /** Follows what the driver got, and compares with what it may and must have got. */
        const check = async () => {
          await turn()
          // Jobs that cannot be run are dropped when their turn comes: never given to the driver.
          for (; seen < taken.length; seen++) {
            const mark = taken[seen]!.payload[0]! + 256 * taken[seen]!.payload[1]!
            for (const job of reference.jobs.slice(0, mark)) {
              const sameOpen = job.open === reference.jobs[mark]!.open
              if (!sameOpen || job.state !== 'waits') continue
              if (!reference.poisoned(job)) throw new Error(`job ${job.mark} was overtaken by ${mark}`)
              job.state = 'failed'
            }
            const job = reference.jobs[mark]!
            if (job.state !== 'waits') throw new Error(`job ${mark} was given out twice, or after its end`)
            if (!reference.startable(job)) throw new Error(`job ${mark} was begun too early`)
            if (reference.poisoned(job))
              throw new Error(`job ${mark} was begun although it waited for a failure`)
            job.state = 'runs'
          }
          if (reference.running().length > depth) throw new Error('more jobs than the driver takes')
          for (let again = true; again && reference.running().length < depth; ) {
            again = false
            for (const job of reference.jobs) {
              if (job.state !== 'waits' || !reference.startable(job)) continue
              if (!reference.poisoned(job)) throw new Error(`job ${job.mark} could run and does not`)
              job.state = 'failed'
              again = true
            }
          }
          for (const [i, client] of clients.entries()) {
            if (gone.has(i)) continue
            for (const [f, { handle }] of fences[i]!.entries()) {
              const value = reference.value(i, f)
              const wanted = reference.failed(i, f, value) ? 'ERR_ACCEL_IO' : 'accepted'
              const found = await codeOf(waitFor(client, [[handle, value]], { ms: 0 }))
              if (reference.running().length < depth && found !== wanted) {
                throw new Error(`fence ${f} of open ${i} at ${value}: ${found}, wanted ${wanted}`)
              }
              const promised = reference.promised(i, f)
              if (promised === value || reference.running().length === depth) continue
              const next = await codeOf(waitFor(client, [[handle, value + 1]], { ms: 0 }))
              if (next !== 'ERR_ACCEL_TIMEOUT')
                throw new Error(`fence ${f} of open ${i} is beyond ${value}: ${next}`)
            }
          }
        }
        const finish = (which: number, fails: boolean) => {
          const running = reference.running()
          const job = running[which % Math.max(1, running.length)]
          if (!job) return
          const given = taken.find(({ payload }) => payload[0]! + 256 * payload[1]! === job.mark)!
          if (given.ranges.some(({ memory }) => memory.destroyed))
            throw new Error('memory was freed under a job')
          job.state = fails ? 'failed' : 'ended'
          if (fails) given.fail(accelError('ERR_ACCEL_IO', 'as the test wants it'))
          else given.finish()
        }
        for (const action of steps) {
          if (action.kind === 'submit') {
            const { open: at, uses, waits, signal } = action
            if (gone.has(at) || uses.some(([buffer]) => destroyed.has(`${at} ${buffer}`))) continue
            const mark = reference.jobs.length
            const job: Known = {
              open: at,
              mark,
              uses,
              waits: waits.map(([fence, below]) => [
                fence,
                Math.max(0, reference.promised(at, fence) - below),
              ]),
              signal:
                signal === null ? undefined : [signal[0], reference.promised(at, signal[0]) + signal[1]],
              state: 'waits',
            }
            const code = codeOf(
              send(
                clients[at]!,
                'submit',
                jobOf(
                  uses.map(([buffer, access]) => [handles[at]![buffer]!, access]),
                  job.waits.map(([fence, value]) => [fences[at]![fence]!.handle, value]),
                  job.signal === undefined ? [0, 0] : [fences[at]![job.signal[0]]!.handle, job.signal[1]],
                  Uint8Array.of(mark & 0xff, mark >> 8),
                ),
              ),
            )
            reference.jobs.push(job)
            if ((await code) !== 'accepted') throw new Error(`job ${mark} was refused: ${await code}`)
          } else if (action.kind === 'end') finish(action.which, action.fails)
          else if (action.kind === 'destroy') {
            const buffer = action.which % BUFFERS
            const name = `${action.open} ${buffer}`
            if (gone.has(action.open) || destroyed.has(name)) continue
            destroyed.add(name)
            await send(clients[action.open]!, 'boDestroy', { handle: bo(handles[action.open]![buffer]!) })
          } else if (!gone.has(action.open)) {
            gone.add(action.open)
            for (const job of reference.jobs) {
              if (job.open === action.open && job.state === 'waits') job.state = 'dropped'
            }
            void clients[action.open]!.close()
          }
          await check()
        }
        while (reference.running().length > 0) {
          finish(0, false)
          await check()
        }
        if (reference.jobs.some(({ state }) => state === 'waits')) throw new Error('a job waits for nothing')
        for (const [i, client] of clients.entries()) {
          if (gone.has(i)) continue
          for (const [b, handle] of handles[i]!.entries()) {
            if (destroyed.has(`${i} ${b}`)) continue
            await codeOf(send(client, 'boWait', { handle, deadlineNs: inMs(0) })).then((code) => {
              if (code === 'ERR_ACCEL_TIMEOUT') throw new Error(`buffer ${b} of open ${i} is still in use`)
            })
          }
        }
        await Promise.all(clients.map((client) => client.close()))
        if (transport.mapped.size > 0) throw new Error(`${transport.mapped.size} buffers are still mapped`)
        if (node.work.quarantinedBytes > 0) throw new Error('memory is still in quarantine')
        if (log.length > 1) throw new Error(`the device was disturbed: ${log}`)
        for (const act of ends) await act()
      },
    ),
    { numRuns: RUNS },
  )
  t.same(held(), before)
})
