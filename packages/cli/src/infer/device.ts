import { Accel } from '@uaccel/accel'
import type { NoIommuOptions } from '@uaccel/core'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { isAccelError } from '@uaccel/uapi'
import { type Accelerator, openAccelerator } from '@uaccel/webnn'
import { type FolderFlag, findNodes, isNode, withNode } from '../nodes/find.js'
import { note } from '../output.js'
import { withModel } from '../spawn-model.js'
import { openTarget, targetHelp } from '../target.js'

/** Where a graph runs. */
export interface InferDevice {
  /** As a person reads it: `NPU-1 1.1.0, emulated (vfio-user)`. */
  readonly description: string
  /** Absent where it is the CPU. Whoever uses it closes it. */
  readonly accelerator?: Accelerator
}

export type DeviceFlags = NoIommuOptions & FolderFlag

/** How a device for graphs is named on the command line. */
export const inferTargetHelp = `a node (accel0); "model" (an NPU model in a process of its own); "cpu"; or a device: ${targetHelp}. Left out, the first node with an accelerator for graphs, and a model where there is none`

/**
 * Runs `use` with the device of that name, and says which one it took where none was named.
 *
 * @throws ERR_ACCEL_NOT_FOUND, ERR_ACCEL_UNSUPPORTED and what opening it throws
 */
export async function withDevice<T>(
  target: string | undefined,
  flags: DeviceFlags,
  use: (device: InferDevice) => Promise<T>,
): Promise<T> {
  if (target === undefined) return withAny(flags, use)
  if (target === 'cpu') return use({ description: 'CPU' })
  if (target === 'model') return withModel('npu', (socket) => withNpu(socket, flags, use))
  if (!isNode(target)) return withNpu(target, flags, use)
  return use(await openServed(target, flags))
}

async function withAny<T>(flags: DeviceFlags, use: (device: InferDevice) => Promise<T>): Promise<T> {
  for (const { target } of findNodes(flags)) {
    let device: InferDevice
    try {
      device = await openServed(target, flags)
    } catch (error) {
      if (!isAccelError(error)) throw error
      note(`${target} is not taken: ${error.message} (${error.code})`)
      continue
    }
    note(`No --device: ${target} is taken.`)
    return use(device)
  }
  note(
    'No --device, and no node is served: a model of the NPU is started, which is software (--device model).',
  )
  return withDevice('model', flags, use)
}

async function openServed(target: string, flags: DeviceFlags): Promise<InferDevice> {
  const { folder } = flags
  // Before the accelerator is opened: it may be the only one that the node lets in.
  const { driver, transport, emulated } = await withNode(target, flags, (node) => node.info())
  return {
    description: `${driver}${emulated === 'yes' ? ', emulated' : ''} (${target}, ${transport})`,
    accelerator: await openAccelerator(target, folder === undefined ? {} : { folder }),
  }
}

/** An NPU that this process drives. */
async function withNpu<T>(
  target: string,
  flags: NoIommuOptions,
  use: (device: InferDevice) => Promise<T>,
): Promise<T> {
  let npu: Npu | undefined
  const accel = new Accel()
  accel.register(
    npuDriver({
      onReady: (ready) => {
        npu = ready
      },
    }),
  )
  const transport = await openTarget(target, flags)
  await accel.add(transport)
  try {
    const { kind, emulated } = transport.identity
    return await use({
      description: `NPU-1 ${npu!.capabilities.version}${emulated ? ', emulated' : ''} (${kind})`,
      accelerator: await openNpuAccelerator(npu!),
    })
  } finally {
    await accel.close() // Also where the device has gone.
  }
}
