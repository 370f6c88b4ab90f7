import { isAccelError } from '@uaccel/uapi'
import { type DeviceHeld, deviceGained, gained, held } from './held.js'
import type { Witness } from './moments.js'
import type { Peer } from './peers.js'
import { type AnyOperation, Hung, type Outcome, Stand, type StandHost } from './stand.js'
import type { CellRequest, CellResult, FaultFinding, FaultName, Verdict } from './types.js'
import type { Pace } from './virtual-time.js'

/** The device is gone by it. */
const terminal: ReadonlySet<FaultName> = new Set([
  'allOnes',
  'vanish',
  'request',
  'error',
  'peerKilled',
  'peerSilent',
])
/** From its moment on the device does no work, so that who has success from it was not told so by the device. */
const idle: ReadonlySet<FaultName> = new Set(['hang', 'allOnes', 'peerKilled', 'peerSilent'])
/** Turns of the event loop, and ms, in which nothing happens where nothing is going to: a device in this process answers in few turns. */
const LOCAL: Pace = { quietTurns: 8 }
const REMOTE: Pace = { quietMs: 50 }
/** What ends on its own after its owner, such as a descriptor that a helper closes, has done so by then. */
const SETTLE_MS = 1000
/** Time for a device to end what it was doing. */
const LATE_MS = 50
/** Runs without a fault after which nothing may have been added for each. */
const STEADY_RUNS = 3

/** What a cell needs of the process that it runs in. */
export interface CellHost extends StandHost {
  peer(transport: CellRequest['transport']): Promise<Peer>
  /** Exceptions and rejections that nobody caught, since the last time. */
  uncaught(): unknown[]
}

/**
 * Runs one cell. What it finds is found again where it is so: what is made once for a process, and kept, is no leak the second time, and a
 * peer that had no processor for a while is not slow twice. On loopback all else is sure, since there time waits for the device.
 */
export async function runCell(host: CellHost, request: CellRequest): Promise<CellResult> {
  const first = await new Cell(host, request).run()
  const unsure = ({ verdict }: FaultFinding) => verdict === 'leaked' || request.transport === 'vfio-user'
  if (first.spent || !first.findings.some(unsure)) return first
  const second = await new Cell(host, request).run()
  if (second.spent) return second
  const again = new Set(second.findings.map(({ verdict }) => verdict))
  return {
    ...first,
    findings: first.findings.filter((finding) => !unsure(finding) || again.has(finding.verdict)),
  }
}

class Cell {
  readonly #host: CellHost
  readonly #request: CellRequest
  readonly #findings: FaultFinding[] = []
  #peer!: Peer
  #stand!: Stand
  #witness: Witness = { struck: false, kept: [], last: [] }
  #outcome = 'none'

  constructor(host: CellHost, request: CellRequest) {
    this.#host = host
    this.#request = request
  }

  async run(): Promise<CellResult> {
    const { time } = this.#host
    const start = process.uptime()
    this.#peer = await this.#host.peer(this.#request.transport)
    const before = held(time)
    this.#stand = new Stand(this.#host, this.#peer)
    this.#pass(false)
    let spent = false
    try {
      await this.#row()
      await this.#close()
      await this.#peer.end()
      // Those of a device that is gone went with it.
      if (!this.#isTerminal) for (const what of this.#stand.left) this.#found('leaked', what)
      for (const what of await this.#settled(before))
        this.#found('leaked', `${what}, after the device was removed`)
    } catch (error) {
      spent = true
      const { last } =
        this.#witness.last.length > 0 ? this.#witness : await this.#lift().catch(() => this.#witness)
      const seen = last.length === 0 ? '' : `; last at the device: ${last.join(', ')}`
      if (error instanceof Hung) this.#found('hung', `${error.message}${seen}`)
      else this.#found('crashed', `the cell broke: ${describe(error)}`)
    }
    time.pass('real')
    for (const what of this.#stand.endless) this.#found('hung', what)
    for (const error of this.#host.uncaught()) this.#found('wrongError', `nobody caught ${describe(error)}`)
    for (const error of this.#stand.errors) {
      const bug = foreign(error)
      if (bug !== undefined) this.#found('wrongError', `reported as ${error.code}: ${describe(bug)}`)
    }
    return {
      struck: this.#witness.struck,
      outcome: this.#outcome,
      findings: this.#findings,
      tookMs: (process.uptime() - start) * 1000,
      ...(this.#request.fault === undefined ? { moments: this.#witness.kept } : {}),
      spent,
    }
  }

  async #row(): Promise<void> {
    const { row } = this.#request
    const operation = this.#operation(row)
    if (row === 'probe') {
      const way = await this.#stand.connect()
      await this.#strike('the probe', () => this.#stand.add(way))
      if (this.#stand.node === undefined) await this.#afresh(operation)
      else await this.#afterwards(operation, undefined)
      return
    }
    if (!(await this.#bringUp(operation))) return
    const before = this.#stand.held
    if (row === 'reset') {
      const node = this.#stand.node!
      await this.#strike('the reset', () => node.reset())
      await this.#afterwards(operation, undefined)
    } else if (row === 'remove') {
      const running = this.#stand.run(operation).then(
        () => undefined,
        (error: unknown) => error,
      )
      await this.#strike('the removal with an operation under way', async () => {
        await this.#stand.accel.close()
        const error = await running
        if (error !== undefined && !isAccelError(error)) throw error
      })
      await this.#violations()
      await this.#afresh(operation)
    } else {
      if (row === 'recovery') {
        await this.#peer.arm('hang', 0)
        this.#pass(true)
        await this.#stand.attempt('an operation of a device that hangs', () => this.#stand.run(operation))
        this.#pass(false)
        await this.#peer.lift()
        if (this.#stand.node === undefined) {
          await this.#afresh(operation) // wedged: judged in the operation's own row
          return
        }
        await this.#stand.reopen()
      }
      await this.#strikeOperation(operation, row === 'recovery')
      await this.#afterwards(operation, before)
    }
  }

  #operation(row: string): AnyOperation {
    const { operations } = this.#host.matrix.options
    return operations[row] ?? Object.values(operations)[0]!
  }

  /** A fault struck of which the device does not come back. */
  get #isTerminal(): boolean {
    const { fault } = this.#request
    return this.#witness.struck && fault !== undefined && terminal.has(fault)
  }

  /** Brings a device up and runs the operation once, which has to go well. */
  async #bringUp(operation: AnyOperation): Promise<boolean> {
    const way = await this.#stand.connect()
    const added = await this.#stand.attempt('the probe', () => this.#stand.add(way))
    if (added.code !== 'done') {
      this.#found('doesNotRecover', `without a fault, the probe failed: ${describeOutcome(added)}`)
      return false
    }
    return this.#works(operation, 'without a fault, the operation')
  }

  async #works(operation: AnyOperation, what: string): Promise<boolean> {
    const outcome = await this.#stand.attempt(what, () => this.#stand.runPatiently(operation))
    if (!isRight(outcome)) this.#foundFailed(what, outcome)
    return isRight(outcome)
  }

  #foundFailed(what: string, outcome: Outcome): void {
    if ('value' in outcome) this.#found('lied', `${what} answered a wrong result`)
    else this.#found('doesNotRecover', `${what} failed: ${describe(outcome.error)}`)
  }

  /** Has the fault befall `work`, which is to end. */
  async #strike(what: string, work: () => Promise<unknown>): Promise<Outcome> {
    const { fault, moment } = this.#request
    await this.#peer.arm(fault, moment.index)
    this.#pass(true)
    const outcome = await this.#stand.attempt(what, work)
    this.#pass(false)
    this.#outcome = outcome.code
    await this.#lift()
    await this.#late()
    if ('error' in outcome) {
      if (!isAccelError(outcome.error))
        this.#found('wrongError', `${what} failed with ${describe(outcome.error)}`)
      else {
        const bug = foreign(outcome.error)
        if (bug !== undefined)
          this.#found('wrongError', `${what} failed with ${outcome.code} because of ${describe(bug)}`)
      }
      const harmless = !this.#witness.struck || fault === 'spuriousInterrupt'
      if (harmless)
        this.#found('wrongError', `${what} failed, and nothing was wrong: ${describeOutcome(outcome)}`)
    }
    return outcome
  }

  async #strikeOperation(operation: AnyOperation, recovers: boolean): Promise<void> {
    const { fault, moment, works } = this.#request
    const outcome = await this.#strike('the operation', () =>
      recovers ? this.#stand.runPatiently(operation) : this.#stand.run(operation),
    )
    if (outcome.code !== 'done') return
    if (!isRight(outcome)) this.#found('lied', 'the operation answered success and a wrong result')
    else if (works && fault !== undefined && moment.index === 0 && idle.has(fault)) {
      this.#found('lied', 'the operation answered success, and the device did no work for it')
    }
  }

  /** What has to hold once the fault is over. */
  async #afterwards(operation: AnyOperation, before: DeviceHeld | undefined): Promise<void> {
    const { fault, row } = this.#request
    if (this.#isTerminal) {
      await this.#gone(operation)
      return
    }
    if (this.#stand.node === undefined) {
      const { reason } = this.#stand
      // One that hangs, or has a fault in its reset, may not come back from that, and is let go with that reason.
      const excused = fault === 'hang' || row === 'reset' || row === 'recovery'
      if (!excused || reason?.code !== 'ERR_ACCEL_WEDGED')
        this.#found('doesNotRecover', `the device was given up: ${describe(reason)}`)
      await this.#afresh(operation)
      return
    }
    await this.#stand.reopen()
    const what = 'once the fault was over, the operation'
    const next = await this.#stand.attempt(what, () => this.#stand.runPatiently(operation))
    if (!isRight(next)) {
      // A fault that the operation did not notice may show in the next; a driver that says so leaves the reset to the device's owner.
      const late = this.#outcome === 'done' && 'error' in next && foreign(next.error) === undefined
      const asks = await this.#stand.needsReset()
      if (!late && !asks) this.#foundFailed(what, next)
      if (!late || asks) await this.#stand.attempt('the reset', async () => this.#stand.node?.reset())
      await this.#stand.reopen()
      await this.#works(
        operation,
        late && !asks ? `${what} after the next` : 'also after a reset, the operation',
      )
      return
    }
    await this.#late()
    if (before !== undefined) await this.#steady(operation, before)
  }

  /** Nothing is added by each operation, or by each fault. */
  async #steady(operation: AnyOperation, before: DeviceHeld): Promise<void> {
    const { fault, moment } = this.#request
    const strikes = fault !== undefined && this.#request.row !== 'recovery'
    if (strikes && deviceGained(before, this.#stand.held).length === 0) return
    const first = this.#stand.held
    for (let run = 0; run < STEADY_RUNS; run++) {
      if (strikes) await this.#peer.arm(fault, moment.index)
      this.#pass(strikes)
      await this.#stand.attempt('the operation', () => this.#stand.run(operation))
      this.#pass(false)
      if (strikes) {
        await this.#peer.lift()
        if (this.#stand.node === undefined) return
        await this.#stand.reopen()
        await this.#stand.attempt('the operation', () => this.#stand.run(operation))
      }
    }
    const after = this.#stand.held
    const each = Object.entries(first).some(
      ([kind, count]) => after[kind as keyof DeviceHeld] >= count + STEADY_RUNS,
    )
    if (!each) return
    const what = strikes ? 'faults' : 'operations'
    for (const grown of deviceGained(first, after))
      this.#found('leaked', `after ${STEADY_RUNS} more ${what} ${grown}`)
  }

  /** A device that is gone answers nothing, and says so; another one can come. */
  async #gone(operation: AnyOperation): Promise<void> {
    const { works } = this.#request
    if (this.#stand.node !== undefined || this.#stand.reason !== undefined) {
      this.#pass(true)
      const outcome = await this.#stand.attempt('an operation of a device that is gone', () =>
        this.#stand.run(operation),
      )
      this.#pass(false)
      if (outcome.code === 'done' && works) {
        this.#found('lied', 'an operation of a device that is gone answered success')
      } else if ('error' in outcome && !isAccelError(outcome.error)) {
        this.#found('wrongError', `a device that is gone answers ${describe(outcome.error)}`)
      }
    }
    await this.#afresh(operation)
  }

  /** Removes what there is, and brings up another device. */
  async #afresh(operation: AnyOperation): Promise<void> {
    await this.#close()
    this.#peer = await this.#host.peer(this.#request.transport)
    if (await this.#bringUp(operation)) await this.#stand.reopen()
  }

  async #close(): Promise<void> {
    this.#pass(true)
    const closed = await this.#stand.attempt('the removal', () => this.#stand.accel.close())
    this.#pass(false)
    if ('error' in closed) this.#found('wrongError', `the removal failed with ${describe(closed.error)}`)
    await this.#violations()
  }

  async #violations(): Promise<void> {
    for (const message of await this.#peer.violations()) this.#found('brokeRules', message)
  }

  /** A device that still works on what its driver took for ended does so now: before it has other work, and its memory other owners. */
  async #late(): Promise<void> {
    if (this.#request.transport === 'loopback') await new Promise((resolve) => setTimeout(resolve, LATE_MS))
  }

  async #lift(): Promise<Witness> {
    this.#witness = await this.#peer.lift()
    return this.#witness
  }

  /** What is held that was not before, once what ends on its own has had time to. */
  async #settled(before: ReturnType<typeof held>): Promise<string[]> {
    const { time } = this.#host
    time.pass('real')
    const end = time.now() + SETTLE_MS
    let left = gained(before, held(time))
    while (left.length > 0 && time.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      left = gained(before, held(time))
    }
    return left
  }

  /** Time runs ahead where nothing but the limits of waits can happen. */
  #pass(striking: boolean): void {
    const { transport, fault } = this.#request
    const waits = striking && fault !== undefined && fault !== 'spuriousInterrupt'
    this.#host.time.pass(transport === 'loopback' ? LOCAL : waits ? REMOTE : 'real')
  }

  #found(verdict: Verdict, message: string): void {
    this.#findings.push({ verdict, message })
  }
}

function isRight(outcome: Outcome): boolean {
  return 'value' in outcome && outcome.value === true
}

/** The error in a chain of causes that is not of the table, nor of a signal: a bug. */
function foreign(error: unknown): unknown {
  if (error === undefined || error instanceof DOMException) return undefined
  if (error instanceof AggregateError) return error.errors.map(foreign).find((each) => each !== undefined)
  return isAccelError(error) ? foreign(error.cause) : error
}

function describeOutcome(outcome: Outcome): string {
  return 'error' in outcome ? describe(outcome.error) : outcome.code
}

/** An error with its causes; with its stack where it is a bug. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError) return `${error.message}: ${error.errors.map(describe).join('; ')}`
  const cause = error.cause === undefined ? '' : `; because: ${describe(error.cause)}`
  return isAccelError(error)
    ? `${error.code}: ${error.message}${cause}`
    : `${error.stack ?? error.message}${cause}`
}
