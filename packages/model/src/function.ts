import { type IrqInfo, type IrqType, Listeners, PciRegion, type RegionInfo } from '@uaccel/core'
import type { DmaAccess } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { Bar, type MemoryPart, readMemory, writeMemory } from './bar.js'
import { AutoClock } from './clock.js'
import { ConfigSpace } from './config-space.js'
import { checkDefinition } from './definition.js'
import { DmaSpace, type DmaSpaceOptions, describeTransfer } from './dma-space.js'
import { Faults } from './faults.js'
import { Interrupts } from './interrupts.js'
import { allOnes, isWidth, type Width } from './registers.js'
import type { EmulatedFunction, ModelBehaviour, ModelClock, ModelContext, ModelDefinition } from './types.js'
import { hex, Violations } from './violations.js'
import { WorkSet } from './work.js'

/** How an emulated function is run. */
export interface FunctionOptions {
  /** Default: an {@link AutoClock}. */
  readonly clock?: ModelClock
  readonly faults?: Faults
  /** Throw a driver's violation at the driver. Default true; otherwise it is only kept, reads answer all ones and writes are dropped. */
  readonly strict?: boolean
  /** Offer the BARs' memory parts for mapping. Default true; otherwise every access is trapped. */
  readonly mapped?: boolean
  readonly dma?: DmaSpaceOptions
}

/** A definition made alive, with what tests hold on to. */
export interface ModelFunction extends EmulatedFunction {
  /** Signals an armed vector in the device's stead: nothing of the device changes. */
  triggerIrq(type: IrqType, vector: number): void
  readonly clock: ModelClock
  readonly faults: Faults
  readonly dma: DmaSpace
  readonly violations: Violations
  /** Throws where the driver broke a rule of the device. */
  assertClean(): void
  /** One access to a BAR, with the value as a number, or a bigint at 8 bytes. */
  readBar(bar: number, offset: number, width: Width): number | bigint
  writeBar(bar: number, offset: number, width: Width, value: number | bigint): void
  /** True where the whole range is one memory part of the BAR. */
  isMemory(bar: number, offset: number, sizeBytes: number): boolean
  /** @throws ERR_ACCEL_NO_DEVICE after it vanished or was closed */
  checkPresent(): void
  /** @throws ERR_ACCEL_NO_DEVICE, ERR_ACCEL_OUT_OF_RANGE */
  checkRange(region: number, offset: number, sizeBytes: number): void
  /** Calls back when the device is wanted back. Answers a function that takes the listener back. */
  onRequest(listener: (reason: AccelError) => void): () => void
}

const REGIONS = PciRegion.VGA + 1

/**
 * Makes a device of a definition. Nothing is shared between two functions made of one definition.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT where no PCI function could be so
 */
export function createFunction<Options>(
  definition: ModelDefinition<Options>,
  options: Options,
  how: FunctionOptions = {},
): ModelFunction {
  return new LiveFunction(definition, options, how)
}

class LiveFunction<Options> implements ModelFunction {
  readonly identity
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly clock: ModelClock
  readonly faults: Faults
  readonly dma: DmaSpace
  readonly violations = new Violations()
  readonly #strict: boolean
  readonly #config: ConfigSpace
  readonly #interrupts: Interrupts
  readonly #bars: (Bar | undefined)[] = []
  readonly #work: WorkSet
  readonly #behaviour: ModelBehaviour
  readonly #lostListeners = new Listeners<AccelError>()
  readonly #requestListeners = new Listeners<AccelError>()
  readonly #scratch = new DataView(new ArrayBuffer(8))
  #gone: AccelError | undefined
  #closed = false
  #accessing = false
  /** Bus mastering was on since the last reset. */
  #mastered = false

  constructor(definition: ModelDefinition<Options>, options: Options, how: FunctionOptions) {
    checkDefinition(definition)
    const { identity, bars } = definition
    this.identity = identity
    this.#strict = how.strict ?? true
    this.clock = how.clock ?? new AutoClock()
    this.faults = how.faults ?? new Faults()
    this.faults.attach({
      fire: (vector) => this.#interrupts.fire(vector),
      allOnes: () => this.#fillMemory(0xff),
      resume: () => this.#work.resume(),
      vanish: (reason) => this.#vanish(reason),
      request: (reason) => this.#request(reason),
      error: (reason) => this.#error(reason),
    })
    this.#work = new WorkSet(this.clock, this.faults)
    this.#config = new ConfigSpace(definition, {
      interruptsChanged: () => this.#configChanged(),
      resetRequested: () => this.#reset(),
    })
    this.#interrupts = new Interrupts(definition.interrupts, {
      config: this.#config,
      faults: this.faults,
      maySend: (vector) => this.#maySend(vector),
    })
    this.irqs = this.#interrupts.irqs
    this.dma = new DmaSpace(
      {
        name: identity.name,
        addressBits: definition.addressBits ?? 64,
        violations: this.violations,
        checkPresent: () => this.checkPresent(),
        checkMayTransfer: (iova, sizeBytes, access) => this.#checkMayTransfer(iova, sizeBytes, access),
      },
      how.dma,
    )
    try {
      for (const bar of bars) this.#bars[bar.index] = new Bar(bar, identity.name)
      this.regions = Array.from({ length: REGIONS }, (_, index) => this.#region(index, how.mapped ?? true))
      this.#behaviour = definition.create(this.#context(), options)
    } catch (error) {
      for (const bar of this.#bars) bar?.close()
      throw error
    }
  }

  assertClean(): void {
    this.violations.assertClean()
  }

  regionFd(region: number): { readonly fd: number; readonly offset: number } | undefined {
    const fd = this.#bars[region]?.fd
    return fd === undefined || this.#closed ? undefined : { fd, offset: 0 }
  }

  regionRead(region: number, offset: number, into: Uint8Array): void {
    if (this.#unanswered('read', region, offset, into.length)) {
      into.fill(0xff)
      return
    }
    if (region === PciRegion.CONFIG) {
      this.#config.read(offset, into)
      return
    }
    const part = this.#bars[region]!.partAt(offset, into.length)
    if (part !== undefined) {
      const start = offset - part.offset
      into.set(part.mapping.window.u8.subarray(start, start + into.length))
    } else if (isWidth(into.length)) {
      const value = this.#read(region, offset, into.length)
      if (typeof value === 'bigint') this.#scratch.setBigUint64(0, value, true)
      else this.#scratch.setUint32(0, value, true)
      for (let i = 0; i < into.length; i++) into[i] = this.#scratch.getUint8(i)
    } else {
      this.#violate('read', region, offset, into.length)
      into.fill(0xff)
    }
  }

  regionWrite(region: number, offset: number, from: Uint8Array): void {
    if (this.#unanswered('write', region, offset, from.length)) return
    if (region === PciRegion.CONFIG) {
      this.#config.write(offset, from)
      return
    }
    const part = this.#bars[region]!.partAt(offset, from.length)
    if (part !== undefined) {
      part.mapping.window.u8.set(from, offset - part.offset)
    } else if (isWidth(from.length)) {
      const width = from.length
      for (let i = 0; i < width; i++) this.#scratch.setUint8(i, from[i]!)
      const view = this.#scratch
      if (width === 8) this.#write(region, offset, width, view.getBigUint64(0, true))
      else if (width === 4) this.#write(region, offset, width, view.getUint32(0, true))
      else this.#write(region, offset, width, width === 2 ? view.getUint16(0, true) : view.getUint8(0))
    } else this.#violate('write', region, offset, from.length)
  }

  readBar(bar: number, offset: number, width: Width): number | bigint {
    return this.#unanswered('read', bar, offset, width) ? allOnes(width) : this.#read(bar, offset, width)
  }

  writeBar(bar: number, offset: number, width: Width, value: number | bigint): void {
    if (!this.#unanswered('write', bar, offset, width)) this.#write(bar, offset, width, value)
  }

  isMemory(bar: number, offset: number, sizeBytes: number): boolean {
    return this.#bars[bar]?.partAt(offset, sizeBytes) !== undefined
  }

  checkPresent(): void {
    if (this.#gone === undefined) return
    throw accelError('ERR_ACCEL_NO_DEVICE', this.#gone.message, { cause: this.#gone })
  }

  checkRange(region: number, offset: number, sizeBytes: number): void {
    this.checkPresent()
    const has = this.regions[region]?.sizeBytes ?? 0
    if (Number.isSafeInteger(offset) && offset >= 0 && offset + sizeBytes <= has) return
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${sizeBytes} bytes at ${hex(offset)} of region ${region} of ${this.identity.name}, which has ${has} bytes.`,
    )
  }

  setIrqs(type: IrqType, start: number, fds: readonly number[]): void {
    if (fds.length > 0) this.checkPresent()
    this.#interrupts.arm(type, start, fds)
  }

  maskIrq(type: IrqType, vector: number, masked: boolean): void {
    this.checkPresent()
    this.#interrupts.mask(type, vector, masked)
  }

  triggerIrq(type: IrqType, vector: number): void {
    this.checkPresent()
    this.#interrupts.trigger(type, vector)
  }

  reset(): void {
    this.#interrupts.disarm()
    this.#reset()
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#lostListeners.add(listener)
  }

  onRequest(listener: (reason: AccelError) => void): () => void {
    return this.#requestListeners.add(listener)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#gone ??= accelError('ERR_ACCEL_NO_DEVICE', `The model ${this.identity.name} was closed.`)
    this.#work.cancel()
    this.#interrupts.close()
    this.dma.clear()
    for (const bar of this.#bars) bar?.close()
    this.#lostListeners.clear()
    this.#requestListeners.clear()
  }

  /** What a function-level reset does, which leaves armed what is armed. */
  #reset(): void {
    this.#work.atRest(() => {
      if (this.#gone !== undefined) return
      this.#work.cancel()
      this.#config.reset()
      this.#interrupts.reset()
      this.#mastered = false
      this.#behaviour.reset()
    })
  }

  #request(reason: AccelError): void {
    if (this.#gone !== undefined) return
    const fired = this.#interrupts.notify('req')
    if (!fired && this.#requestListeners.size === 0) this.#vanish(reason)
    this.#requestListeners.tell(reason)
  }

  #error(reason: AccelError): void {
    if (this.#gone === undefined && !this.#interrupts.notify('err')) this.#vanish(reason)
  }

  #context(): ModelContext {
    const config = this.#config
    const interrupts = this.#interrupts
    return {
      dma: this.dma,
      clock: {
        now: () => this.clock.now(),
        after: (delayNs, work) => this.#work.after(delayNs, work),
        ...(this.clock.poll === undefined
          ? {}
          : { poll: (forNs, look, work) => this.#work.poll(forNs, look, work) }),
      },
      atRest: (action) => this.#work.atRest(action),
      raise: (vector) => interrupts.raise(vector),
      setIntx: (asserted) => interrupts.setLine(asserted),
      memory: (name) => this.#memory(name).mapping.window.u8,
      violation: (message) => {
        this.violations.record('ERR_ACCEL_BAD_ACCESS', `${this.identity.name}: ${message}`)
      },
      get busMaster() {
        return config.busMaster
      },
      get irqMode() {
        return interrupts.mode
      },
    }
  }

  #memory(name: string): MemoryPart {
    for (const bar of this.#bars) {
      const part = bar?.parts.find((candidate) => candidate.name === name)
      if (part !== undefined) return part
    }
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `The model ${this.identity.name} has no memory "${name}".`)
  }

  #region(index: number, mapped: boolean): RegionInfo {
    const bar = this.#bars[index]
    const sizeBytes = index === PciRegion.CONFIG ? this.#config.sizeBytes : (bar?.sizeBytes ?? 0)
    const mappable = mapped && bar !== undefined ? bar.parts : []
    return {
      index,
      sizeBytes,
      readable: sizeBytes > 0,
      writable: sizeBytes > 0,
      mappable: mappable.map((part) => ({ offset: part.offset, sizeBytes: part.sizeBytes })),
    }
  }

  /** Checks an access from outside. True where the device answers nobody: removed by surprise, or its decoder off. */
  #unanswered(what: 'read' | 'write', region: number, offset: number, length: number): boolean {
    this.checkRange(region, offset, length)
    if (length === 0 || this.faults.isAllOnes) return true
    if (region === PciRegion.CONFIG || this.#config.memoryDecode) return false
    const violation = this.violations.record(
      'ERR_ACCEL_BAD_ACCESS',
      `${this.identity.name}: ${what} of ${length} bytes at BAR${region}+${hex(offset)} while memory decode is off in the command register. Enable the device first, also after a reset.`,
      { details: { device: this.identity.name, bar: region, offset, width: length } },
    )
    if (this.#strict) throw violation
    return true
  }

  #read(bar: number, offset: number, width: Width): number | bigint {
    const part = this.#bars[bar]!.partAt(offset, width)
    let value: number | bigint | undefined
    if (offset % width === 0) {
      value =
        part === undefined
          ? (this.#interrupts.readBar(bar, offset, width) ?? this.#behaviourRead(bar, offset, width))
          : readMemory(part, offset - part.offset, width)
    }
    if (value !== undefined) return value
    this.#violate('read', bar, offset, width)
    return allOnes(width)
  }

  #write(bar: number, offset: number, width: Width, value: number | bigint): void {
    const part = this.#bars[bar]!.partAt(offset, width)
    let taken = false
    if (offset % width === 0) {
      if (part === undefined) {
        taken =
          this.#interrupts.writeBar(bar, offset, width, value) ||
          this.#behaviourWrite(bar, offset, width, value)
      } else {
        writeMemory(part, offset - part.offset, width, value)
        taken = true
      }
    }
    if (!taken) this.#violate('write', bar, offset, width)
  }

  #behaviourRead(bar: number, offset: number, width: Width): number | bigint | undefined {
    this.#accessing = true
    try {
      return this.#behaviour.read(bar, offset, width)
    } finally {
      this.#accessing = false
    }
  }

  #behaviourWrite(bar: number, offset: number, width: Width, value: number | bigint): boolean {
    this.#accessing = true
    try {
      return this.#behaviour.write(bar, offset, width, value)
    } finally {
      this.#accessing = false
    }
  }

  #violate(what: 'read' | 'write', bar: number, offset: number, width: number): void {
    const declared =
      this.#behaviour.describe?.(bar, offset) ?? `nothing of that width and kind at ${hex(offset)}`
    const violation = this.violations.record(
      'ERR_ACCEL_BAD_ACCESS',
      `${this.identity.name}: the driver did a ${what} of ${width} bytes at BAR${bar}+${hex(offset)}; the model declares ${declared}.`,
      { details: { device: this.identity.name, bar, offset, width, access: what, declared } },
    )
    if (this.#strict) throw violation
  }

  #checkMayTransfer(iova: bigint, sizeBytes: number, access: DmaAccess): void {
    this.checkPresent()
    const refused = this.#accessing || this.#work.isAwaited
    const fails = !refused && this.faults.takeDmaError()
    if (!refused && !fails && this.#config.busMaster) return
    const { name } = this.identity
    const what = describeTransfer(iova, sizeBytes, access)
    if (this.#accessing) {
      throw this.violations.record(
        'ERR_ACCEL_BAD_ACCESS',
        `${name}: ${what} inside a register access. A model schedules work with clock.after().`,
      )
    }
    if (this.#work.isAwaited) throw accelError('ERR_ACCEL_DMA_FAULT', `${name}: ${what}: a reset waits.`)
    if (fails) throw accelError('ERR_ACCEL_DMA_FAULT', `${name}: ${what}: injected fault.`)
    const message = `${name}: ${what} while bus mastering is off`
    // Switched off again, it is how a driver stops a device; never switched on, the driver forgot it.
    if (this.#mastered) throw accelError('ERR_ACCEL_DMA_FAULT', `${message} again.`)
    throw this.violations.record('ERR_ACCEL_DMA_FAULT', `${message}. Enable it before starting the device.`)
  }

  #maySend(vector: number): boolean {
    if (this.#config.busMaster || this.#mastered) return this.#config.busMaster
    this.violations.record(
      'ERR_ACCEL_BAD_ACCESS',
      `${this.identity.name}: interrupt vector ${vector} while bus mastering is off: a message is a write to memory. Enable bus mastering before starting the device.`,
    )
    return false
  }

  #configChanged(): void {
    this.#mastered ||= this.#config.busMaster
    this.#interrupts.unmasked()
  }

  #fillMemory(byte: number): void {
    for (const bar of this.#bars) for (const { mapping } of bar?.parts ?? []) mapping.window.u8.fill(byte)
  }

  #vanish(reason: AccelError): void {
    if (this.#gone !== undefined) return
    this.#gone = reason
    this.#work.cancel()
    this.#fillMemory(0xff)
    this.#lostListeners.tell(reason)
    this.#lostListeners.clear()
  }
}
