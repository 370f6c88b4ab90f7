import { defineModel, type ModelBehaviour, type ModelContext, registerBank } from '@uaccel/model'

/** How fast the model is, in nanoseconds of its clock. */
export interface EduOptions {
  /** Default 1,000. */
  readonly factorialNs?: number
  /** More for each factor, since QEMU multiplies in a loop: 2^30 takes it about a second. Default 1. */
  readonly nsPerFactor?: number
  /** Default 10,000; QEMU takes 100 ms. */
  readonly dmaNs?: number
}

// What QEMU's docs/specs/edu.rst says, in its words where it has any.
const IDENTIFICATION = 0x0100_00ed // 0xRRrr00ed: version 1.0
const COMPUTING = 0x01
const INTERRUPT_WHEN_COMPUTED = 0x80
const DMA_RUN = 0x01
const DMA_TO_HOST = 0x02
const DMA_INTERRUPT = 0x04
const CAUSE_FACTORIAL = 0x001
const CAUSE_DMA = 0x100
const BUFFER_OFFSET = 0x40000n
const BUFFER_BYTES = 4096n

/** QEMU's edu device: liveness, factorial, interrupts and a DMA engine with a buffer of its own. */
export const eduModel = defineModel<EduOptions>({
  // PCI_CLASS_OTHERS and the revision: hw/misc/edu.c; the subsystem is QEMU's default.
  identity: {
    name: 'edu',
    vendor: 0x1234,
    device: 0x11e8,
    revision: 0x10,
    classCode: 0x00ff00,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
  },
  bars: [{ index: 0, sizeBytes: 0x10_0000, kind: 'mem32' }],
  interrupts: { intx: true, msi: 1 },
  addressBits: 28,
  create: createEdu,
})

function createEdu(context: ModelContext, options: EduOptions): ModelBehaviour {
  const { factorialNs = 1000, nsPerFactor = 1, dmaNs = 10_000 } = options
  const buffer = new Uint8Array(Number(BUFFER_BYTES))
  const { clock, dma } = context
  /** From 0x80 on, accesses of 4 and of 8 bytes are allowed; a narrow write clears the upper half. */
  const eitherWidth = [4, 8] as const

  const registers = registerBank([
    { name: 'identification', offset: 0x00, width: 4, access: 'ro', reset: IDENTIFICATION },
    { name: 'liveness', offset: 0x04, width: 4, access: 'rw', write: invert },
    { name: 'factorial', offset: 0x08, width: 4, access: 'rw', write: startFactorial },
    { name: 'status', offset: 0x20, width: 4, access: 'rw', write: writeStatus },
    { name: 'interruptStatus', offset: 0x24, width: 4, access: 'ro' },
    { name: 'interruptRaise', offset: 0x60, width: 4, access: 'wo', write: raise },
    { name: 'interruptAcknowledge', offset: 0x64, width: 4, access: 'wo', write: acknowledge },
    {
      name: 'dmaSource',
      offset: 0x80,
      width: 8,
      widths: eitherWidth,
      access: 'rw',
      write: dmaParameter('dmaSource'),
    },
    {
      name: 'dmaDestination',
      offset: 0x88,
      width: 8,
      widths: eitherWidth,
      access: 'rw',
      write: dmaParameter('dmaDestination'),
    },
    {
      name: 'dmaCount',
      offset: 0x90,
      width: 8,
      widths: eitherWidth,
      access: 'rw',
      write: dmaParameter('dmaCount'),
    },
    { name: 'dmaCommand', offset: 0x98, width: 8, widths: eitherWidth, access: 'rw', write: startDma },
  ])

  function invert(value: number): void {
    registers.set('liveness', ~value)
  }

  function startFactorial(n: number): void {
    const status = registers.get('status')
    if (status & COMPUTING) {
      context.violation(
        'a number was written while the factorial of another is computed. Wait for status bit 0.',
      )
      return
    }
    registers.set('factorial', n)
    registers.set('status', status | COMPUTING)
    clock.after(factorialNs + n * nsPerFactor, () => {
      registers.set('factorial', factorial(n))
      const done = registers.get('status')
      registers.set('status', done & ~COMPUTING)
      if (done & INTERRUPT_WHEN_COMPUTED) raise(CAUSE_FACTORIAL)
    })
  }

  function writeStatus(value: number): void {
    const computing = registers.get('status') & COMPUTING
    registers.set('status', computing | (value & INTERRUPT_WHEN_COMPUTED))
  }

  function raise(causes: number): void {
    const status = registers.get('interruptStatus') | causes
    registers.set('interruptStatus', status)
    if (status === 0) return
    context.raise(0)
    context.setIntx(true)
  }

  function acknowledge(causes: number): void {
    const status = registers.get('interruptStatus') & ~causes
    registers.set('interruptStatus', status)
    if (status === 0) context.setIntx(false)
  }

  function dmaParameter(name: 'dmaSource' | 'dmaDestination' | 'dmaCount'): (value: bigint) => void {
    return (value) => {
      if (dmaIsIdle()) registers.set(name, value)
    }
  }

  function startDma(command: bigint): void {
    if ((Number(command & 0xffn) & DMA_RUN) === 0 || !dmaIsIdle()) return
    registers.set('dmaCommand', command)
    clock.after(dmaNs, () => {
      try {
        transfer()
      } finally {
        const bits = Number(registers.get64('dmaCommand') & 0xffffn)
        registers.set('dmaCommand', bits & ~DMA_RUN)
        if (bits & DMA_INTERRUPT) raise(CAUSE_DMA)
      }
    })
  }

  function dmaIsIdle(): boolean {
    if ((registers.get('dmaCommand') & DMA_RUN) === 0) return true
    context.violation(
      'the DMA engine was programmed while it transfers. Wait for bit 0 of its command register.',
    )
    return false
  }

  /** A transfer that misses the buffer ends QEMU with a fatal error; here the driver is told, and nothing moves. */
  function transfer(): void {
    const toHost = (registers.get('dmaCommand') & DMA_TO_HOST) !== 0
    const source = registers.get64('dmaSource')
    const destination = registers.get64('dmaDestination')
    const count = registers.get64('dmaCount')
    const start = (toHost ? source : destination) - BUFFER_OFFSET
    if (start < 0n || start + count > BUFFER_BYTES) {
      const range = `0x${(start + BUFFER_OFFSET).toString(16)} for ${count} bytes`
      context.violation(`a DMA of the device's own memory at ${range}; its buffer is 0x40000-0x40fff.`)
      return
    }
    const bytes = buffer.subarray(Number(start), Number(start + count))
    if (toHost) dma.write(destination, bytes)
    else dma.read(source, bytes)
  }

  return {
    read: (_bar, offset, width) => registers.read(offset, width),
    write: (_bar, offset, width, value) => registers.write(offset, width, value),
    describe: (_bar, offset) => registers.describe(offset),
    reset() {
      registers.reset()
      buffer.fill(0)
    },
  }
}

/** n! in 32 bits that wrap; from 34 on its lowest 32 bits are 0. */
function factorial(n: number): number {
  if (n > 33) return 0
  let product = 1
  for (let i = 2; i <= n; i++) product = Math.imul(product, i)
  return product >>> 0
}
