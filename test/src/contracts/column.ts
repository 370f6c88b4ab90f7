import type { Transport } from '@uaccel/core'
import { npuBench, npuContract, queuesContract } from '@uaccel/driver-npu/contract'
import { nvmeContract } from '@uaccel/driver-nvme/contract'
import { eduBench, eduContract, irqsContract, resetContract, transportContract } from '@uaccel/testkit'
import type { Test } from 'tap'
import { runCell } from './cells.js'
import { type Column, impossible, type Suite, suites } from './matrix.js'
import { type Owner, removalContract } from './removal.js'

/** One way to all devices that the suites use. */
export interface Ways {
  edu(): Promise<Transport>
  /** In test mode (docs/devices/npu.md, 9.10). */
  npu(): Promise<Transport>
  nvme(): Promise<Transport>
  /** How much of each suite: random cases of an NPU operation, transfers of edu, jobs of each of the eight NVMe lanes. Small where the processor is emulated. */
  readonly runs: number
  /** What the device's interrupts can be there. Default all. */
  readonly interrupts?: readonly ('intx' | 'msi' | 'msix')[]
  /** How workers learn of completions, where not in all ways one after the other. */
  readonly queueIrqs?: readonly ('msix' | 'intx' | 'poll')[]
  /** How much slower than here it may be, for limits; default 1. */
  readonly patience?: number
  /** Who takes edu away and gives it back. */
  readonly owner: Owner
}

/** What the transport suite must know of edu (QEMU docs/specs/edu.rst). */
const eduIdentity = {
  vendor: 0x1234,
  device: 0x11e8,
  register: { region: 0, offset: 0, width: 4, value: 0x0100_00ed },
} as const

const all = ['intx', 'msi', 'msix'] as const

/** NPU and NVMe models have no MSI, and can be polled anywhere. */
const irqsOf = (interrupts: Ways['interrupts'] = all) =>
  (['msix', 'intx', 'poll'] as const).filter((irq) => irq === 'poll' || interrupts.includes(irq))

const runners: Readonly<Record<Suite, (t: Test, ways: Ways) => void>> = {
  transport: (t, { edu }) => transportContract(t, edu, eduIdentity),
  edu: (t, { edu, runs, interrupts = all }) =>
    eduContract(t, edu, { transfers: runs, interrupts: interrupts.filter((type) => type !== 'msix') }),
  npu: (t, { npu, runs, interrupts }) => npuContract(t, npu, { runs, irqs: irqsOf(interrupts) }),
  queues: (t, { npu, runs, interrupts, queueIrqs, patience = 1 }) =>
    queuesContract(t, npu, { workers: 4, runs, irqs: queueIrqs ?? irqsOf(interrupts), patience }),
  nvme: (t, { nvme, runs, interrupts }) =>
    nvmeContract(t, nvme, { ios: 128 * runs, blocks: 1024, irqs: irqsOf(interrupts) }),
  intx: (t, { edu }) => irqsContract(t, 'intx', edu, eduBench),
  msi: (t, { edu }) => irqsContract(t, 'msi', edu, eduBench),
  msix: (t, { npu }) => irqsContract(t, 'msix', npu, npuBench),
  reset: (t, { edu, npu }) => {
    resetContract(t, edu, eduBench, { rounds: 3 })
    resetContract(t, npu, npuBench, { rounds: 3 })
  },
  removal: (t, { edu, owner }) => removalContract(t, edu, owner),
}

/** Runs every suite that can be on one way to a device, but those that a test of their own runs. */
export async function runColumn(
  t: Test,
  column: Column,
  ways: Ways,
  elsewhere: readonly Suite[] = [],
): Promise<void> {
  for (const suite of Object.keys(suites) as Suite[]) {
    if (impossible[suite]?.[column] !== undefined || elsewhere.includes(suite)) continue
    await runCell(t, suite, column, (t) => runners[suite](t, ways))
  }
}
