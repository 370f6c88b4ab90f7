import { openDevice, openVfio, PciRegion, parseBdf } from '@uaccel/core'
import { Bar0 } from '@uaccel/driver-edu/registers'
import { parseDevices } from '@uaccel/lab'

/**
 * Runs in the lab, under QEMU's trace of memory accesses: each way to use an accessor has a register of its own, so that
 * the accesses of each can be counted. Prints what it did as JSON. Run it with --allow-natives-syntax.
 */
const [warm, hot] = process.argv.slice(2).map(Number) as [number, number]
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const transport = await openVfio(parseBdf(edu.bdf))
const device = openDevice(transport)
await device.enable()
const bar = await device.mapBar(0, Bar0)

let sum = 0
let sum64 = 0n
const loops: Readonly<Record<string, (count: number) => void>> = {
  readUsed(count) {
    for (let i = 0; i < count; i++) sum = (sum + bar.ID.read()) | 0
  },
  readUnused(count) {
    for (let i = 0; i < count; i++) bar.IRQ_STATUS.read()
  },
  write(count) {
    for (let i = 0; i < count; i++) bar.IRQ_ACK.write(i)
  },
  update(count) {
    for (let i = 0; i < count; i++) bar.STATUS.update({ irqOnDone: (i & 1) === 1 })
  },
  readUsed64(count) {
    for (let i = 0; i < count; i++) sum64 ^= bar.DMA_SOURCE.read()
  },
  readUnused64(count) {
    for (let i = 0; i < count; i++) bar.DMA_DESTINATION.read()
  },
  write64(count) {
    for (let i = 0; i < count; i++) bar.DMA_COUNT.write(4n)
  },
  update64(count) {
    for (let i = 0; i < count; i++) bar.DMA_COMMAND.update({ toRam: (i & 1) === 1 })
  },
}

// Compiled only where it runs with --allow-natives-syntax: to every other parser it is no JavaScript.
const status = new Function('loop', 'return %GetOptimizationStatus(loop)') as (loop: unknown) => number
/** kOptimized, and by TurboFan (OptimizationStatus of V8's src/runtime/runtime.h). */
const OPTIMISED = (1 << 4) | (1 << 6)

const optimised: string[] = []
for (const [name, loop] of Object.entries(loops)) {
  // In portions, so that the compiled loop is entered anew and not only replaced on the stack.
  for (let i = 0; i < 100; i++) loop(warm / 100)
  loop(hot)
  if ((status(loop) & OPTIMISED) === OPTIMISED) optimised.push(name)
}

// What would be wrong: the trace has to tell it from the accessors.
const raw = transport.map(PciRegion.BAR0, { offset: 0, sizeBytes: 4096 })
const words = raw.window.u32
for (let i = 0; i < hot; i++) Atomics.store(words, Bar0.find('LIVENESS')!.offset / 4, i)
raw.revoke()

await device.release()
await transport.close()
console.log(JSON.stringify({ optimised, id: sum !== 0, sum64: String(sum64) }))
