import { openSync } from 'node:fs'
import { accelDriver, Completion } from '@uaccel/accel'
import { reg32, registers } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { defineModel, type ModelContext, registerBank } from '@uaccel/model'
import { type FaultMatrix, faultMatrix } from '@uaccel/testkit/faults'
import { accelError, cmd, u32, uapi } from '@uaccel/uapi'

/**
 * A device that adds one to a word in memory: `ADDRESS` says where, `START` begins, an interrupt tells the end, `STATUS` whether it went
 * well (1), failed (2), or goes on (4).
 */
const adderModel = defineModel({
  identity: { name: 'adder', vendor: 0x1234, device: 0xadd1, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 0x1000, kind: 'mem32' }],
  interrupts: { msi: 1 },
  addressBits: 32,
  create(context: ModelContext) {
    const bank = registerBank([
      { name: 'address', offset: 0x0, width: 4, access: 'rw' },
      { name: 'start', offset: 0x4, width: 4, access: 'wo', write: start },
      { name: 'status', offset: 0x8, width: 4, access: 'ro' },
    ])
    function start(): void {
      const address = BigInt(bank.get('address'))
      bank.set('status', 4)
      context.clock.after(2_000_000, () => {
        const word = new Uint8Array(4)
        try {
          context.dma.read(address, word)
          word[0]!++
          context.dma.write(address, word)
          bank.set('status', 1)
        } catch {
          bank.set('status', 2)
        }
        context.raise(0)
      })
    }
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      describe: (_bar, offset) => bank.describe(offset),
      reset: () => bank.reset(),
    }
  },
})

const adderUapi = uapi({
  name: 'adder',
  version: 1,
  commands: { increment: cmd(0x40, { in: { value: u32 }, out: { value: u32 } }) },
})

const Bar0 = registers({ ADDRESS: reg32(0x0, 'rw'), START: reg32(0x4, 'wo'), STATUS: reg32(0x8, 'ro') })
const [WELL, BUSY] = [1, 4]
const ALL_ONES = 0xffff_ffff

/** What can be wrong with its driver: one at a time. */
export type Bug =
  | 'none'
  | 'lostUnmap'
  | 'waitWithoutLimit'
  | 'ignoresSignal'
  | 'busyWaitWithoutLimit'
  | 'ignoresStatus'
  | 'swallowsInterrupt'
  | 'doubleCompletion'
  | 'forgetsToQuiesce'
  | 'listenerLeak'
  | 'timerLeak'
  | 'descriptorLeak'
  | 'wrongError'
  | 'probeWithoutLimit'

function adderDriver(bug: Bug) {
  return accelDriver({
    name: 'adder',
    uapi: adderUapi,
    ids: [{ bus: 'pci', vendor: 0x1234, device: 0xadd1 }],
    async probe(dev) {
      dev.setDmaAddressBits(32)
      await dev.enable({ busMaster: true })
      const bar = await dev.mapBar(0, Bar0)
      let swallowed = false
      let settle: (() => void) | undefined
      const ended = new Completion('the end of the addition')
      const irqs = await dev.allocIrqVectors({ min: 1, max: 1, types: ['msi'] })
      irqs.handle(0, () => {
        if (bug === 'swallowsInterrupt' && swallowed) {
          swallowed = false
          return
        }
        if (bug === 'doubleCompletion') {
          if (settle === undefined) throw new Error('completed twice')
          settle()
          settle = undefined
        }
        if (bug === 'ignoresStatus' || bar.STATUS.read() !== BUSY) ended.complete()
      })
      const rest = async () => {
        const end = performance.now() + 1000
        while (bar.STATUS.read() === BUSY) {
          if (performance.now() > end)
            throw accelError('ERR_ACCEL_TIMEOUT', 'the device does not come to rest')
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      }
      if (bug !== 'forgetsToQuiesce') dev.defer(rest)
      if (bug === 'probeWithoutLimit') {
        bar.ADDRESS.write(Number(dev.dma.alloc(4096).iova))
        bar.START.write(1)
        await ended.wait() // the interrupt of a first addition, which may never come
      }
      const inUse = new Set<DmaRegion>()
      const free = () => {
        if (bug !== 'lostUnmap') for (const memory of inUse) memory.free()
        inUse.clear()
      }

      async function add(memory: DmaRegion, value: number, signal: AbortSignal) {
        memory.u32[0] = value
        ended.reinit()
        bar.ADDRESS.write(Number(memory.iova))
        settle = () => {}
        bar.START.write(1)
        if (bug === 'busyWaitWithoutLimit') while (bar.STATUS.read() === BUSY) {}
        else if (bug === 'waitWithoutLimit') await ended.wait({ signal })
        else if (bug === 'ignoresSignal') await ended.wait()
        else {
          try {
            await ended.wait({ signal, timeoutMs: 1000 })
          } catch (error) {
            swallowed = true // the late interrupt, it is thought: but it was lost
            if (bug === 'descriptorLeak') openSync('/dev/null', 'r')
            if (bug === 'wrongError') throw new Error('it takes too long', { cause: error })
            throw error
          }
        }
        const status = bar.STATUS.read()
        if (status === ALL_ONES) dev.checkPresent()
        if (bug !== 'ignoresStatus' && status !== WELL)
          throw accelError('ERR_ACCEL_IO', `the addition ended with status ${status}`, {
            details: { idle: status !== BUSY },
          })
        return memory.u32[0]!
      }

      return {
        commands: {
          async increment({ value }, { signal }) {
            const memory = dev.dma.alloc(4096, { name: 'the word', separate: true })
            if (bug === 'listenerLeak') dev.signal.addEventListener('abort', () => memory.sizeBytes)
            if (bug === 'timerLeak') setInterval(() => ended.done, 1000)
            try {
              return { value: await add(memory, value, signal) }
            } finally {
              // What the device may still write is freed once it is at rest.
              inUse.add(memory)
              if (bug === 'forgetsToQuiesce' || bar.STATUS.read() !== BUSY) free()
            }
          },
        },
        async recover() {
          if (bug !== 'forgetsToQuiesce') await rest()
          free()
        },
      }
    },
  })
}

let value = 1

const matrixOf = (bug: Bug): FaultMatrix =>
  faultMatrix(adderDriver(bug), adderModel, {
    module: import.meta.url,
    operations: {
      async increment(dev) {
        value++
        return (await dev.call('increment', { value: value % 200 })).value === (value % 200) + 1
      },
    },
  })

export const none = matrixOf('none')
export const lostUnmap = matrixOf('lostUnmap')
export const ignoresSignal = matrixOf('ignoresSignal')
export const waitWithoutLimit = matrixOf('waitWithoutLimit')
export const busyWaitWithoutLimit = matrixOf('busyWaitWithoutLimit')
export const ignoresStatus = matrixOf('ignoresStatus')
export const swallowsInterrupt = matrixOf('swallowsInterrupt')
export const doubleCompletion = matrixOf('doubleCompletion')
export const forgetsToQuiesce = matrixOf('forgetsToQuiesce')
export const listenerLeak = matrixOf('listenerLeak')
export const timerLeak = matrixOf('timerLeak')
export const descriptorLeak = matrixOf('descriptorLeak')
export const wrongError = matrixOf('wrongError')
export const probeWithoutLimit = matrixOf('probeWithoutLimit')

/** The same by bug; each is also an export of its own, which is how the processes of a matrix find it. */
export const brokenDrivers: Readonly<Record<Bug, FaultMatrix>> = {
  none,
  lostUnmap,
  waitWithoutLimit,
  ignoresSignal,
  busyWaitWithoutLimit,
  ignoresStatus,
  swallowsInterrupt,
  doubleCompletion,
  forgetsToQuiesce,
  listenerLeak,
  timerLeak,
  descriptorLeak,
  wrongError,
  probeWithoutLimit,
}
