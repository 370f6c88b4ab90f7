import { Accel } from '@uaccel/accel'
import { type IommuKind, openVfio } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import npu from '@uaccel/driver-npu'
import { serveNode } from '@uaccel/server'

/*
 * A server of one device under kernel VFIO, in a process of its own: argv[2] is the device's address, argv[3] the kernel's interface
 * to the IOMMU, argv[4] says `exclusive` or nothing. Says `served`, and later why its node is gone; ends with its parent.
 */

const [bdf, iommu, exclusive] = process.argv.slice(2) as [string, IommuKind, string | undefined]
const accel = new Accel()
accel.on('error', (error) => process.send?.({ error: error.message }))
accel.register(edu)
accel.register(npu)
const node = await accel.add(await openVfio(bdf, { iommu }))
const server = await serveNode(node, { mode: 0o666, exclusive: exclusive === 'exclusive' })
process.send?.({ served: server.path })
void server.closed.then(() => process.send?.({ closed: node.reason?.code ?? 'asked to' }))

async function stop(): Promise<void> {
  await server.close()
  await accel.close()
  process.exit()
}
process.once('SIGTERM', stop).once('disconnect', () => process.exit())
