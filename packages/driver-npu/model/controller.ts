import type { ModelBehaviour, ModelContext, RegisterBank, Width } from '@uaccel/model'
import { limits } from './blocks.js'
import { Counters } from './counters.js'
import { opcodes } from './execute.js'
import { LMEM_BASE, LMEM_SIZE, QUEUES, Queue, WINDOWS } from './queue.js'
import { Registers } from './registers.js'
import { type NpuOptions, Scheduler } from './scheduler.js'
import { BLOCK_BYTES } from './tensor/block.js'
import { bytesOf } from './tensor/params.js'

/** Time from `CC.EN` to `CSTS.RDY`; the advertised limit is a second. */
const READY_NS = 20_000
const EVENT = { FATAL: 1, QUEUE: 2 } as const
const NO_QUEUE = 0xff

const bitmap = (bits: readonly number[]) => bits.reduce((map, bit) => map | (1 << bit), 0) >>> 0

/** The controller: registers, events, interrupts (docs/devices/npu.md, sections 4, 6 and 11). */
export class Controller implements ModelBehaviour {
  readonly context: ModelContext
  readonly counters = new Counters()
  readonly queues: readonly Queue[]
  readonly scheduler: Scheduler
  readonly #registers: RegisterBank
  #enabled = false
  #ready = false
  #fatal = 0
  #stuck = false
  #events = 0
  #eventsEnable = 0
  #queueEvents = 0
  #intxStatus = 0
  #intxEnable = 0
  #heartbeat = 0
  #cancelReady: () => void = () => {}

  constructor(context: ModelContext, options: NpuOptions) {
    this.context = context
    this.queues = Array.from({ length: QUEUES }, (_, index) => new Queue(index, this))
    this.scheduler = new Scheduler(this, options)
    const registers = new Registers()
    this.#declare(registers)
    this.counters.declare(registers)
    for (const queue of this.queues) queue.declare(registers)
    this.#registers = registers.build()
  }

  get running(): boolean {
    return this.#enabled && this.#ready && this.#fatal === 0
  }

  read(bar: number, offset: number, width: Width): number | bigint | undefined {
    return bar === 0 ? this.#registers.read(offset, width) : undefined
  }

  write(bar: number, offset: number, width: Width, value: number | bigint): boolean {
    return bar === 0 && this.#registers.write(offset, width, value)
  }

  /** A function reset: power-on state (11). */
  reset(): void {
    this.#cancelReady()
    this.#stuck = this.#enabled = this.#ready = false
    this.#disable()
    this.counters.reset()
    this.context.memory('lmem').fill(0xa5)
  }

  /** Raises vector `vector`: a message where MSI-X is enabled, and its bit of INTX_STATUS (6). */
  raise(vector: number): void {
    this.#intxStatus |= 1 << vector
    this.#driveIntx()
    this.context.raise(vector)
  }

  queueChanged(queue: Queue): void {
    this.#queueEvents |= 1 << queue.index
    this.#event(EVENT.QUEUE)
  }

  /** A fatal error: everything stops, registers stay readable (10.3). */
  fail(cause: number, queue?: Queue): void {
    if (this.#fatal !== 0) return
    this.#fatal = cause | ((queue?.index ?? NO_QUEUE) << 8)
    this.scheduler.drop()
    this.#event(EVENT.FATAL)
  }

  /** Nothing moves any more; with `deaf`, not even CC (9.18). */
  hang(deaf: boolean): void {
    this.#heartbeat = this.#beat()
    this.#stuck = deaf
    this.scheduler.hang()
  }

  #event(bit: number): void {
    this.#events |= bit
    if ((this.#eventsEnable & bit) !== 0) this.raise(0)
  }

  #driveIntx(): void {
    this.context.setIntx((this.#intxStatus & this.#intxEnable) !== 0)
  }

  #beat(): number {
    return Math.floor(this.context.clock.now() / 1e6) >>> 0
  }

  #setEnabled(enabled: boolean): void {
    if (enabled === this.#enabled || this.#stuck) return
    this.#enabled = enabled
    if (enabled) this.#readySoon()
    else {
      this.context.atRest(() => {
        this.#disable()
        this.#readySoon()
      })
    }
  }

  /** RDY follows EN. */
  #readySoon(): void {
    this.#cancelReady()
    this.#cancelReady = this.context.clock.after(READY_NS, () => {
      this.#ready = this.#enabled
    })
  }

  /** A controller reset but for RDY, which follows (11). */
  #disable(): void {
    this.#fatal = this.#events = this.#eventsEnable = this.#queueEvents = 0
    this.#intxStatus = this.#intxEnable = this.#heartbeat = 0
    this.#driveIntx()
    this.scheduler.drop()
    for (const queue of this.queues) queue.reset()
    this.context.memory('doorbells').fill(0)
  }

  #declare(registers: Registers): void {
    const constants = {
      ID: [0x000, 0x3155504e],
      VERSION: [0x004, 0x0001_0100],
      CAP0: [0x008, (1000 << 16) | (WINDOWS << 8) | QUEUES],
      CAP1: [
        0x00c,
        (Math.log2(limits.macs) << 24) |
          (Math.log2(limits.elements) << 16) |
          ((BLOCK_BYTES / 16) << 8) |
          (12 << 4) |
          1,
      ],
      OPCODES_LO: [0x010, bitmap(opcodes.filter((opcode) => opcode < 32))],
      OPCODES_HI: [0x014, bitmap(opcodes.filter((opcode) => opcode >= 32).map((opcode) => opcode - 32))],
      DTYPES: [0x018, bitmap(Object.keys(bytesOf).map(Number))],
      MAX_DIM: [0x01c, limits.dim],
      LMEM_BASE_LO: [0x020, Number(LMEM_BASE & 0xffff_ffffn)],
      LMEM_BASE_HI: [0x024, Number(LMEM_BASE >> 32n)],
      LMEM_SIZE_LO: [0x028, LMEM_SIZE],
      LMEM_SIZE_HI: [0x02c, 0],
      CLOCK_KHZ: [0x030, 1_000_000],
    }
    for (const [name, [offset, value]] of Object.entries(constants))
      registers.add(name, offset, 'ro', { read: () => value })
    registers.add('CC', 0x040, 'rw', {
      read: () => Number(this.#enabled),
      write: (value) => this.#setEnabled((value & 1) !== 0),
    })
    registers.add('CSTS', 0x044, 'ro', { read: () => Number(this.#ready) | (this.#fatal !== 0 ? 2 : 0) })
    registers.add('FATAL', 0x048, 'ro', { read: () => this.#fatal })
    registers.add('HEARTBEAT', 0x04c, 'ro', {
      read: () => (this.scheduler.hung || !this.running ? this.#heartbeat : this.#beat()),
    })
    registers.add('INTX_STATUS', 0x050, 'ro', { read: () => this.#intxStatus })
    registers.add('INTX_ACK', 0x054, 'wo', {
      write: (value) => {
        this.#intxStatus &= ~value
        this.#driveIntx()
      },
    })
    registers.add('INTX_ENABLE', 0x058, 'rw', {
      read: () => this.#intxEnable,
      write: (value) => {
        this.#intxEnable = value & 0x1ffff
        this.#driveIntx()
      },
    })
    registers.add('EVENTS', 0x060, 'w1c', {
      read: () => this.#events,
      write: (value) => {
        this.#events &= ~value
      },
    })
    registers.add('EVENTS_ENABLE', 0x064, 'rw', {
      read: () => this.#eventsEnable,
      write: (value) => {
        this.#eventsEnable = value & 3
      },
    })
    registers.add('QUEUE_EVENTS', 0x068, 'rc', {
      read: () => {
        const found = this.#queueEvents
        this.#queueEvents = 0
        return found
      },
    })
  }
}
