import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readKernelInterrupts } from './interrupts.js'

const bdf = '0000:00:05.0'

/** As the lab's guest showed it, with a second processor. */
const lines = `           CPU0       CPU1
  1:          9          0   IO-APIC   1-edge      i8042
 11:          3          4   IO-APIC  11-fasteoi   vfio-intx(0000:00:06.0), virtio3
 24:         12         30  PCI-MSI-0000:00:05.0   0-edge      vfio-msi[0](0000:00:05.0)
NMI:          0          0   Non-maskable interrupts
`

t.test('messages, a line, and nobody', async (t) => {
  const root = t.testdir({ proc: { interrupts: lines } })
  const device = (address: string) => join(root, 'sys/bus/pci/devices', address)
  const options = { sysfs: join(root, 'sys'), proc: join(root, 'proc') }
  mkdirSync(join(device(bdf), 'msi_irqs'), { recursive: true })
  writeFileSync(join(device(bdf), 'irq'), '24\n')
  for (const [irq, kind] of [
    ['25', 'msi'],
    ['24', 'msi'],
    ['not a number', 'msi'],
  ])
    writeFileSync(join(device(bdf), 'msi_irqs', irq!), `${kind}\n`)
  t.same(readKernelInterrupts(bdf, options), [
    { irq: 24, type: 'msi', count: 42, handler: 'vfio-msi[0](0000:00:05.0)' },
    { irq: 25, type: 'msi' },
  ])
  mkdirSync(device('0000:00:06.0'), { recursive: true })
  writeFileSync(join(device('0000:00:06.0'), 'irq'), '11\n')
  t.same(readKernelInterrupts('00:06.0', options), [
    { irq: 11, type: 'intx', count: 7, handler: 'vfio-intx(0000:00:06.0), virtio3' },
  ])
  t.same(readKernelInterrupts('00:07.0', options), [])
  t.same(readKernelInterrupts(bdf, { ...options, proc: '/nowhere' }), [
    { irq: 24, type: 'msi' },
    { irq: 25, type: 'msi' },
  ])
  t.throws(() => readKernelInterrupts('../..', options), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})
