// Reads and writes registers until they are compiled, while mappings are taken back; accessors.test.ts reads V8's trace.
// Needs --allow-natives-syntax.
import { openDevice } from './device.js'
import { FakeTransport } from './fake-transport.test.support.js'
import { reg32, registers } from './registers.js'
import type { DeviceTap } from './tap.js'

const VALUE = 0x9234_5678
const Registers = registers({ STATUS: reg32(0x00, 'rw'), CONTROL: reg32(0x40, 'rw') })

/** A line in V8's own output: see test/steady.program.ts of the NPU's driver. */
const mark = new Function('text', '%DebugPrint(text)') as (text: string) => void

const pause = () => new Promise((resolve) => setTimeout(resolve, 50))

async function opened() {
  const transport = new FakeTransport()
  const device = openDevice(transport)
  await device.enable()
  return { transport, device, bar: await device.mapBar(0, Registers) }
}

const { transport, device, bar } = await opened()

const READS = 1000

/** Known by its name in the trace. */
function pollRegisters(): number {
  let sum = 0
  for (let i = 0; i < READS; i++) {
    bar.CONTROL.write(i)
    sum = (sum + bar.STATUS.read()) | 0
  }
  return sum
}

async function hot(): Promise<void> {
  for (let round = 0; round < 10; round++) {
    transport.bar.window.u32[0] = VALUE + round
    for (let call = 0; call < 1000; call++) {
      if (pollRegisters() !== Math.imul(VALUE + round, READS)) throw new Error('read something else')
      if (transport.bar.window.u32[0x10] !== READS - 1) throw new Error('wrote something else')
    }
    await pause() // V8 compiles in other threads
  }
}

await hot()
const others = [await opened(), await opened(), await opened(), await opened(), await opened()]
await hot()
mark('others are taken back')
for (const other of others) {
  await other.device.release()
  await other.transport.close()
  for (const touch of [() => other.bar.STATUS.read(), () => other.bar.CONTROL.write(1)]) {
    try {
      touch()
      throw new Error('a register that was taken back was reached')
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_ACCEL_NO_DEVICE') throw error
    }
  }
}
await hot()
mark('another is followed')
let told = 0
const count = () => void told++
const tap: DeviceTap = {
  named() {},
  read: count,
  write: count,
  copied() {},
  irq() {},
  dmaMapped() {},
  dmaUnmapped() {},
  queued() {},
  started() {},
  completed() {},
}
const another = await opened()
const stopOther = another.device.follow(tap)
for (let i = 0; i < 100; i++) {
  another.bar.CONTROL.write(1)
  another.bar.STATUS.read()
}
if (told !== 200) throw new Error(`${told} accesses were told`)
await hot()
stopOther()
await hot()
if (told !== 200) throw new Error('accesses of another device were told')
await another.device.release()
await another.transport.close()
mark('this one is followed')
const stop = device.follow(tap)
bar.CONTROL.write(1)
stop()
mark('and is not any more')
await hot()
mark('this one is taken back')
await device.reset()
mark('and is there again')
await hot()
mark('the end')
await device.release()
await transport.close()
