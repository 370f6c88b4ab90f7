import { defineModel, type ModelBehaviour, type ModelContext, registerBank } from '@uaccel/model'

/*
 * The device in software, written from its datasheet and from nothing else: it imports no constant of the driver, and its numbers are
 * its own. Where one of the two has an offset wrong, a test fails; had they shared it, none would.
 */

/** How fast the model is. */
export interface MyNpuOptions {
  /** For each byte, in ns of the model's clock. Default 50,000: slow, so that a test can give up a call midway (4096 bytes take 0.2 s). */
  readonly nsPerByte?: number
}

const BUSY = 0b01
const FAILED = 0b10
const ENDED = 0b1
const MOST_BYTES = 4096

export const myNpuModel = defineModel<MyNpuOptions>({
  // Base class 0x12 is "processing accelerator" (PCI Code and ID Assignment Specification).
  identity: { name: 'my-npu', vendor: 0x1234, device: 0x0acc, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 0x4000, kind: 'mem32' }],
  interrupts: { msix: { vectors: 1, bar: 0, tableOffset: 0x2000, pbaOffset: 0x3000 } },
  addressBits: 40,
  create: createMyNpu,
})

function createMyNpu(context: ModelContext, { nsPerByte = 50_000 }: MyNpuOptions): ModelBehaviour {
  // An access of anything else, or of another width or kind, is a violation: it fails the driver's test with both sides named.
  const bank = registerBank([
    { name: 'id', offset: 0x00, width: 4, access: 'ro', reset: 0xacce0001 },
    { name: 'status', offset: 0x04, width: 4, access: 'ro' },
    { name: 'source', offset: 0x08, width: 8, access: 'rw' },
    { name: 'count', offset: 0x10, width: 4, access: 'rw' },
    { name: 'start', offset: 0x14, width: 4, access: 'wo', write: start },
    { name: 'sum', offset: 0x18, width: 4, access: 'ro' },
    { name: 'interruptStatus', offset: 0x1c, width: 4, access: 'w1c' },
  ])

  function start(): void {
    const count = bank.get('count')
    const busy = (bank.get('status') & BUSY) !== 0
    if (busy || count < 1 || count > MOST_BYTES) {
      context.violation(
        busy ? 'a sum was started while another runs.' : `a sum of ${count} bytes was started.`,
      )
      return
    }
    bank.set('status', BUSY)
    // Work is scheduled, never done inside an access: a driver that does not wait is to fail here, as it would on hardware.
    context.clock.after(count * nsPerByte, () => end(add(bank.get64('source'), count)))
  }

  /** The sum, or undefined where the device may not read there. That is the driver's doing, and kept as a violation. */
  function add(address: bigint, count: number): number | undefined {
    const bytes = new Uint8Array(count)
    try {
      context.dma.read(address, bytes)
    } catch {
      return undefined
    }
    return bytes.reduce((sum, byte) => sum + byte, 0)
  }

  function end(sum: number | undefined): void {
    if (sum !== undefined) bank.set('sum', sum)
    bank.set('status', sum === undefined ? FAILED : 0)
    bank.set('interruptStatus', ENDED)
    context.raise(0)
  }

  return {
    read: (_bar, offset, width) => bank.read(offset, width),
    write: (_bar, offset, width, value) => bank.write(offset, width, value),
    describe: (_bar, offset) => bank.describe(offset),
    reset: () => bank.reset(),
  }
}
