import { Bar0 } from '@uaccel/driver-edu/registers'
import { memoryAccesses, memoryTrace } from '@uaccel/lab'
import t from 'tap'
import { runGuest } from './guest.js'

/** Calls of each accessor before its code counts as hot, and after. */
const warm = 100_000
const hot = 10_000
const all = warm + hot
/** The size of edu's BAR 0, which is aligned to it (QEMU docs/specs/edu.rst). */
const barBytes = 1 << 20

t.setTimeout(600_000)

t.test('what QEMU sees of hot register accesses is what was asked for', async (t) => {
  const { exitCode, stdout, stderr, trace } = await runGuest('exactness', {
    nodeArgs: ['--allow-natives-syntax'],
    args: [String(warm), String(hot)],
    trace: memoryTrace,
  })
  t.equal(exitCode, 0, stderr)
  t.match(JSON.parse(stdout), {
    optimised: [
      'readUsed',
      'readUnused',
      'write',
      'update',
      'readUsed64',
      'readUnused64',
      'write64',
      'update64',
    ],
    id: true,
  })

  const counts: Record<string, number> = {}
  const names = new Map(Bar0.entries.map(({ name, offset }) => [offset, name]))
  /** Accesses to registers of `update`, in order: `r` and `w`. */
  const orders: Record<string, string[]> = { STATUS: [], DMA_COMMAND: [] }
  for (const { kind, address, size } of memoryAccesses(trace!, 'edu-mmio')) {
    const offset = Number(address % BigInt(barBytes))
    const name = names.get(offset) ?? `0x${offset.toString(16)}`
    const key = `${kind} ${size} ${name}`
    counts[key] = (counts[key] ?? 0) + 1
    orders[name]?.push(kind === 'read' ? 'r' : 'w')
  }
  t.strictSame(
    sorted(counts),
    sorted({
      'read 4 ID': all,
      'read 4 IRQ_STATUS': all,
      'write 4 IRQ_ACK': all,
      'read 4 STATUS': all,
      'write 4 STATUS': all,
      'read 8 DMA_SOURCE': all,
      'read 8 DMA_DESTINATION': all,
      'write 8 DMA_COUNT': all,
      'read 8 DMA_COMMAND': all,
      'write 8 DMA_COMMAND': all,
      // Atomics.store is a read too on x86-64: had an accessor used it, this is what would have been counted.
      'read 4 LIVENESS': hot,
      'write 4 LIVENESS': hot,
    }),
  )
  for (const [name, order] of Object.entries(orders)) {
    t.ok(order.join('') === 'rw'.repeat(all), `each update of ${name} is a read, then a write`)
  }
})

const sorted = (counts: Record<string, number>) => Object.fromEntries(Object.entries(counts).sort())
