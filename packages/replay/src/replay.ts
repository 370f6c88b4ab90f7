import {
  type IrqType,
  irqTypes,
  Listeners,
  PciRegion,
  type RegisterMap,
  type ResetKind,
  resetKinds,
} from '@uaccel/core'
import type { DmaAccess } from '@uaccel/memory'
import type { EventFd } from '@uaccel/sys'
import { type AccelError, accelError, errorCode } from '@uaccel/uapi'
import { ConfigShadow } from './config-shadow.js'
import { Kind, PIECE_BYTES } from './kinds.js'
import { RegisterNames } from './names.js'
import type { ReplayOptions } from './options.js'
import { type Answer, accessBytes, Progress, placeOf } from './progress.js'
import { ReplayMemory } from './replay-memory.js'
import type { Session, Step } from './session.js'
import { describeAccess, describePlace, describeStep, showBytes } from './words.js'

/**
 * How much longer than in the recording a driver that rests is waited for to read what it read there, before the device goes on, and how
 * long at most that was, in ms.
 */
const QUIET_MS = 20
const MAX_REST_MS = 10_000
/** Differences that are kept. */
const MAX_NOTES = 1000
/** Steps that a message names. */
const SHOWN_STEPS = 5

/**
 * A recorded device at work: answers what a driver does from a session, does what the device did where it did it, and refuses what is
 * not in it. What transport and server have in common.
 */
export class Replay {
  readonly session: Session
  readonly config: ConfigShadow
  readonly memory: ReplayMemory
  readonly lost = new Listeners<AccelError>()
  readonly requests = new Listeners<AccelError>()
  /** What was lawful and yet not as recorded, a line each: the first thousand. */
  readonly notes: string[] = []
  readonly #strict: boolean
  readonly #inTime: boolean
  readonly #names = new RegisterNames()
  readonly #armed = new Map<IrqType, (EventFd | undefined)[]>()
  /** What was written to a place, as recorded and as it came: it may be an address. */
  #written = new Map<string, readonly [bigint, bigint]>()
  #progress: Progress
  #mismatch: AccelError | undefined
  #gone: AccelError | undefined
  #quiet: NodeJS.Timeout | undefined
  #touched = false
  /** When what the driver did last was recorded. */
  #lastNs = 0n
  /** When what it did last of a fixed order was recorded, and when it came. */
  #anchor = { recordedNs: 0n, cameMs: performance.now() }

  constructor(session: Session, options: ReplayOptions = {}) {
    this.session = session
    this.config = new ConfigShadow(session.device)
    this.#strict = options.strict ?? false
    this.#inTime = options.timing === 'recorded'
    for (const [region, map] of session.registers) this.#names.set(region, map)
    for (const [region, map] of Object.entries(options.registers ?? {})) this.#names.set(Number(region), map)
    this.#progress = new Progress(session)
    this.memory = new ReplayMemory(session.device, options.requireSealed ?? true, {
      session,
      checkPresent: () => this.checkPresent(),
      mapping: (id, sizeBytes, access) => this.#mapping(id, sizeBytes, access),
      mapped: (id) => this.#mapped(id),
      unmapped: (id) => this.#unmapped(id),
    })
    this.#advance()
  }

  /** What the driver did that is not in the recording, and ended the replay. */
  get mismatch(): AccelError | undefined {
    return this.#mismatch
  }

  /** How much of the session was replayed, in steps of the driver and the device. */
  get counts(): { readonly replayed: number; readonly total: number } {
    return this.#progress.counts
  }

  /** Learns what the driver calls the registers of a region. */
  describe(region: number, map: RegisterMap): void {
    this.#names.set(region, map)
  }

  /** Throws what went wrong, or what the driver did not do that is in the recording. */
  assertComplete(): void {
    if (this.#mismatch !== undefined) throw this.#mismatch
    const left = this.#progress.left()
    if (left.length === 0) return
    const lines = left.slice(0, SHOWN_STEPS).map((i) => {
      const step = this.session.steps[i]!
      return `\n  ${describePlace(this.session, step)}: ${describeStep(this.#names, step)}`
    })
    const more = left.length > SHOWN_STEPS ? `\n  and ${left.length - SHOWN_STEPS} more` : ''
    throw accelError(
      'ERR_ACCEL_BAD_ACCESS',
      `${left.length} steps of ${this.session.name} were not replayed:${lines.join('')}${more}`,
      { details: { left: left.length, step: this.session.steps[left[0]!]!.number } },
    )
  }

  /** @throws ERR_ACCEL_NO_DEVICE after it was lost or closed */
  checkPresent(): void {
    if (this.#gone === undefined) return
    throw accelError('ERR_ACCEL_NO_DEVICE', this.#gone.message, { cause: this.#gone })
  }

  /** Answers a read of so many bytes. */
  read(region: number, offset: number, into: Uint8Array): void {
    this.#checkRange(region, offset, into.length)
    if (region === PciRegion.CONFIG) {
      this.config.read(offset, into)
      return
    }
    this.#touch()
    for (let at = 0; at < into.length; at += PIECE_BYTES)
      this.#readPiece(region, offset + at, into.subarray(at, at + PIECE_BYTES))
  }

  #readPiece(region: number, offset: number, into: Uint8Array): void {
    const place = placeOf(region, offset, into.length)
    const came = () => describeAccess(this.#names, true, { region, offset, width: into.length })
    const { index, again } = this.#readStep(place, came)
    const step = this.session.steps[index]!
    if (
      again !== undefined &&
      this.#names.find({ region, offset, width: into.length }, true)?.access === 'rc'
    )
      throw this.#differs(this.#progress.nextOrdered, came())
    if (again === 'early')
      this.#note(
        `${came()}, sooner than recorded: it got what came later, at ${describePlace(this.session, step)}`,
      )
    if (again === undefined) {
      this.#fireBefore(index)
      this.#done(index)
      this.#throwFailure(index)
    }
    this.#answer(step, place, into)
    this.#advance()
  }

  /** Takes a write of so many bytes. */
  write(region: number, offset: number, from: Uint8Array): void {
    this.#checkRange(region, offset, from.length)
    if (region === PciRegion.CONFIG) {
      this.config.write(offset, from)
      return
    }
    this.#touch()
    for (let at = 0; at < from.length; at += PIECE_BYTES)
      this.#writePiece(region, offset + at, from.subarray(at, at + PIECE_BYTES))
  }

  #writePiece(region: number, offset: number, from: Uint8Array): void {
    const place = placeOf(region, offset, from.length)
    const shown = from.length > 8 ? from : numberOf(from)
    const came = () => describeAccess(this.#names, false, { region, offset, width: from.length }, shown)
    this.#ordered(Kind.mmioWrite, came, (step, index) => {
      if (placeOf(step.index, step.a, accessBytes(step)) !== place) return false
      return this.#isWritten(step, from, index)
    })
    this.#progress.forgetReads(place)
    this.#advance()
  }

  arm(type: IrqType, start: number, events: readonly (EventFd | undefined)[]): void {
    this.checkPresent()
    const armed = this.#armed.get(type)
    const total = start + events.length
    if (type !== 'err' && type !== 'req' && armed === undefined) {
      const came = () => `${total} vector(s) of ${type} taken`
      const id = irqTypes.indexOf(type)
      this.#touch()
      this.#ordered(Kind.irqArm, came, (step) => step.id === id && step.b >= BigInt(total))
    }
    const all = armed ?? []
    for (const [i, event] of events.entries()) all[start + i] = event
    this.#armed.set(type, all)
    this.#advance()
  }

  disarm(type: IrqType): void {
    if (!this.#armed.delete(type) || type === 'err' || type === 'req' || this.#gone !== undefined) return
    const came = () => `the vectors of ${type} given back`
    this.#ordered(Kind.irqDisarm, came, (step) => step.id === irqTypes.indexOf(type))
    this.#advance()
  }

  reset(kind: ResetKind): void {
    this.checkPresent()
    const came = () => `a ${kind} reset`
    this.#ordered(Kind.resetBegin, came, (step) => step.index === resetKinds.indexOf(kind))
    this.#armed.clear()
    this.config.reset()
    this.#advance()
  }

  /** True where the driver's next step is a reset. */
  get resetIsNext(): boolean {
    const next = this.#progress.nextOrdered
    return next !== undefined && this.session.steps[next]!.kind === Kind.resetBegin
  }

  power(on: boolean): void {
    this.checkPresent()
    const came = () => (on ? 'the device put to sleep' : 'the device woken')
    this.#ordered(Kind.power, came, (step) => step.width === (on ? 1 : 0))
    if (on) this.#armed.clear()
    this.#advance()
  }

  /** True where a driver did more than look at configuration space. */
  get touched(): boolean {
    return this.#touched
  }

  /** Begins anew, for another driver. */
  rewind(): void {
    if (!this.#touched) return
    clearTimeout(this.#quiet)
    this.#quiet = undefined
    this.#progress = new Progress(this.session)
    this.#written = new Map()
    this.#armed.clear()
    this.#mismatch = undefined
    this.#gone = undefined
    this.#touched = false
    this.notes.length = 0
    this.config.reset()
    this.memory.rewind()
    this.#advance()
  }

  close(reason: AccelError): void {
    clearTimeout(this.#quiet)
    this.#gone ??= reason
    this.memory.clear()
    this.#armed.clear()
    this.lost.clear()
    this.requests.clear()
  }

  #checkRange(region: number, offset: number, sizeBytes: number): void {
    this.checkPresent()
    const has = this.session.device.regions[region]?.sizeBytes ?? 0
    if (Number.isSafeInteger(offset) && offset >= 0 && offset + sizeBytes <= has) return
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${sizeBytes} bytes at 0x${offset.toString(16)} of region ${region} of ${this.session.device.address}, which has ${has} bytes`,
    )
  }

  #touch(): void {
    this.#touched = true
    if (!this.config.memoryDecode)
      throw this.#refuse(
        'memory decoding to be on',
        'an access of a BAR while it is off in the command register',
      )
  }

  /** How long it is until a step, in ms: 0 where it does not matter. */
  #dueMs(index: number): number {
    if (!this.#inTime) return 0
    const { recordedNs, cameMs } = this.#anchor
    const afterMs = Number(this.session.steps[index]!.timeNs - recordedNs) / 1e6
    return Math.min(Math.max(0, cameMs + afterMs - performance.now()), MAX_REST_MS)
  }

  /** A read that answers something else than the last of its place waits for its time, and the driver polls on. */
  #tooSoon(next: number, last: number): boolean {
    const [a, b] = [this.session.steps[next]!, this.session.steps[last]!]
    return this.#inTime && (a.b !== b.b || !a.payload.equals(b.payload)) && this.#dueMs(next) > 0
  }

  /** The step that answers a read. */
  #readStep(place: string, came: () => string): Answer {
    if (this.#strict)
      return { index: this.#expect(this.#progress.nextOfDriver, came, (step) => isReadOf(step, place)) }
    const found = this.#progress.takeRead(place, (next, last) => this.#tooSoon(next, last))
    if (found === undefined) throw this.#differs(this.#progress.nextOrdered, came())
    return found
  }

  /** What a read answers: what was written there, if it is that, by its mapping where it was an address. */
  #answer(step: Step, place: string, into: Uint8Array): void {
    const written = this.#written.get(place)
    let { b: value } = step
    if (step.width === 0) {
      into.set(step.payload)
      return
    }
    if (written !== undefined && written[0] === value) value = written[1]
    for (let i = 0; i < into.length; i++) into[i] = Number((value >> BigInt(8 * i)) & 0xffn)
  }

  #isWritten(step: Step, from: Uint8Array, index: number): boolean {
    const recorded = step.width === 0 ? step.payload : undefined
    if (from.length > 8) return recorded !== undefined && Buffer.compare(recorded, from) === 0
    const [wanted, came] = [recorded === undefined ? step.b : numberOf(recorded), numberOf(from)]
    if (!this.memory.isSame(wanted, came, from.length, index)) return false
    this.#written.set(placeOf(step.index, step.a, from.length), [wanted, came])
    return true
  }

  /** The step at `index`, where it is what came. */
  #expect(
    index: number | undefined,
    came: () => string,
    fits: (step: Step, index: number) => boolean,
  ): number {
    const step = index === undefined ? undefined : this.session.steps[index]
    if (index === undefined || step === undefined || !fits(step, index)) throw this.#differs(index, came())
    return index
  }

  /** Something of a fixed order came. */
  #ordered(kind: number, came: () => string, fits: (step: Step, index: number) => boolean): void {
    this.#touched = true
    const { nextOrdered, nextOfDriver, segmentStart } = this.#progress
    const next = this.#strict ? nextOfDriver : nextOrdered
    const index = this.#expect(next, came, (step, at) => step.kind === kind && fits(step, at))
    this.#fireBefore(index)
    this.#checkMemory(segmentStart, index)
    this.#done(index)
    this.#throwFailure(index)
  }

  #mapping(id: number, sizeBytes: number, access: DmaAccess): void {
    this.#touched = true
    const recorded = this.session.mappings[id]
    const came = `DMA mapping ${id} of ${sizeBytes} bytes, ${access}`
    if (recorded === undefined) throw this.#differs(undefined, came)
    if (recorded.sizeBytes !== sizeBytes || recorded.access !== access)
      throw this.#refuse(
        `DMA mapping ${id} of ${recorded.sizeBytes} bytes, ${recorded.access}`,
        came,
        recorded.from,
      )
    if (this.#strict)
      this.#expect(
        this.#progress.nextOfDriver,
        () => came,
        (step) => step.kind === Kind.dmaMap && step.id === id,
      )
  }

  #mapped(id: number): void {
    this.#done(this.session.mappings[id]!.from)
    this.#advance()
  }

  #unmapped(id: number): void {
    const { to } = this.session.mappings[id]!
    if (to === Number.POSITIVE_INFINITY || this.#gone !== undefined) return
    if (this.#strict)
      this.#expect(
        this.#progress.nextOfDriver,
        () => `DMA mapping ${id} taken back`,
        (step) => step.id === id && step.kind === Kind.dmaUnmap,
      )
    this.#done(to)
    this.#advance()
  }

  #done(index: number): void {
    const { timeNs } = this.session.steps[index]!
    if (index === this.#progress.nextOrdered) this.#anchor = { recordedNs: timeNs, cameMs: performance.now() }
    this.#progress.finish(index)
    this.#lastNs = timeNs
  }

  /** What the driver was refused when it was recorded it is refused again. */
  #throwFailure(index: number): void {
    const failed = this.session.steps[index + 1]
    if (failed?.kind !== Kind.failed) return
    this.#advance()
    throw accelError(errorCode(failed.a) ?? 'ERR_ACCEL_IO', failed.payload.toString())
  }

  /** What the device did before a step has happened when that comes. */
  #fireBefore(index: number): void {
    for (
      let next = this.#progress.nextOfDevice;
      next !== undefined && next < index;
      next = this.#progress.nextOfDevice
    )
      this.#fire(next)
  }

  /** Does what the device did next, as far as the driver has come for it. */
  #advance(): void {
    clearTimeout(this.#quiet)
    this.#quiet = undefined
    for (;;) {
      const next = this.#progress.nextOfDevice
      if (next === undefined || this.#gone !== undefined) return
      const before = this.#strict ? this.#progress.nextOfDriver : this.#progress.nextOrdered
      if (before !== undefined && before < next) return
      if (this.#waitsForMapping(next)) return
      const dueMs = this.#dueMs(next)
      if (dueMs > 0) {
        this.#quiet = setTimeout(() => this.#advance(), dueMs)
        return
      }
      if (!this.#strict && this.#progress.readsBefore(next)) {
        // A device does not wait for reads: a driver that rests does not poll as it did.
        const recordedMs = Number(this.session.steps[next]!.timeNs - this.#lastNs) / 1e6
        this.#quiet = setTimeout(
          () => {
            this.#fireBefore(next + 1)
            this.#advance()
          },
          QUIET_MS + Math.min(MAX_REST_MS, Math.max(0, recordedMs)),
        )
        return
      }
      this.#fire(next)
    }
  }

  /** A driver that did not map yet what the device wrote to will do it. */
  #waitsForMapping(index: number): boolean {
    const { kind, id } = this.session.steps[index]!
    if (kind !== Kind.deviceMemory || this.memory.has(id)) return false
    return !this.#progress.isDone(this.session.mappings[id]!.from)
  }

  #fire(index: number): void {
    const step = this.session.steps[index]!
    this.#progress.passOfDevice()
    const { kind, id, index: vector, b } = step
    if (kind === Kind.irq) {
      const type = irqTypes[id]!
      const event = this.#armed.get(type)?.[vector]
      if (type !== 'intx' && !this.config.busMaster) {
        this.#refuse(
          'bus mastering to be on',
          `interrupt ${type} ${vector} while it is off: a message is a write to memory`,
          index,
        )
      } else if (event === undefined) this.#note(`interrupt ${type} ${vector} reached nobody`)
      else event.signal(b)
    } else if (kind === Kind.deviceMemory) {
      if (!this.memory.has(id) || !this.memory.put(step))
        this.#note(
          `${describeStep(this.#names, step)}: the driver had taken the mapping back, or it may not be written`,
        )
    } else {
      const code = errorCode(step.a) ?? 'ERR_ACCEL_NO_DEVICE'
      const reason = accelError(code, step.payload.toString())
      if (kind === Kind.lost) this.#lose(reason)
      else if (this.requests.size > 0) this.requests.tell(reason)
      else this.#lose(reason)
    }
  }

  /** Holds what the driver put into memory, before a step that starts the device, against the recording. */
  #checkMemory(from: number, to: number): void {
    for (const { step, index, at, found } of this.memory.differences(from, to)) {
      const expected = `${describeStep(this.#names, step)}, of which ${showBytes(step.payload.subarray(at))} from byte ${at} on`
      const came = `${showBytes(found.subarray(at))} there`
      if (step.width === 0 || this.#strict) throw this.#refuse(expected, came, index)
      // The device writes there too, and may have done it when nobody looked.
      this.memory.put(step)
      this.#note(`expected ${expected}, came ${came}: taken for the device's`)
    }
  }

  /** The error for something that is not what the recording has at `index`, or at its end. */
  #differs(index: number | undefined, came: string): AccelError {
    const step = index === undefined ? undefined : this.session.steps[index]
    const expected = step === undefined ? 'nothing more' : describeStep(this.#names, step)
    return this.#refuse(expected, came, index)
  }

  /** Ends the replay: the device is lost to its driver, whose waits end with it. Answers what the access throws, with the mismatch as its cause. */
  #refuse(expected: string, came: string, index = this.#progress.nextOrdered): AccelError {
    const { name, steps } = this.session
    const step = index === undefined ? undefined : steps[index]
    const where =
      step === undefined ? `after all ${steps.length} steps` : `at ${describePlace(this.session, step)}`
    const error = accelError(
      'ERR_ACCEL_BAD_ACCESS',
      `${name}, ${where}: expected ${expected}; came ${came}`,
      {
        details: { expected, came, ...(step === undefined ? {} : { step: step.number }) },
      },
    )
    this.#mismatch ??= error
    this.#gone ??= error
    clearTimeout(this.#quiet)
    // Before the driver sees an error: what an interrupt handler throws when the device is lost ends no process.
    this.lost.tell(error)
    return accelError('ERR_ACCEL_NO_DEVICE', error.message, { cause: error })
  }

  #lose(reason: AccelError): void {
    if (this.#gone !== undefined) return
    this.#gone = reason
    setImmediate(() => this.lost.tell(reason))
  }

  #note(text: string): void {
    if (this.notes.length < MAX_NOTES) this.notes.push(text)
  }
}

function isReadOf(step: Step, place: string): boolean {
  return step.kind === Kind.mmioRead && placeOf(step.index, step.a, accessBytes(step)) === place
}

/** Little-endian, of up to 8 bytes. */
function numberOf(bytes: Uint8Array): bigint {
  let value = 0n
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!)
  return value
}
