import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Accel } from '@uaccel/accel'
import { type IommuKind, openVfio, Scope, type Transport } from '@uaccel/core'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import type { Graph } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import { type Accelerator, ml } from '@uaccel/webnn'
import { loadNetwork, type Network } from './network.js'

/** The network and where it runs. */
export interface Engine {
  /** As it stands in the report, such as `NPU-1`. */
  readonly device: string
  /** How the device is reached, such as `vfio-user`. */
  readonly transport: string
  readonly network: Network
  close(): Promise<void>
}

/** Images at once: one doorbell for all of them. */
const BATCH = 16

/** Limit for the model's process to start, and to end, in milliseconds. */
const processTimeoutMs = 10_000

/** The network on the CPU alone. */
export async function cpuEngine(model: Graph): Promise<Engine> {
  const context = await ml.createContext({ accelerated: false })
  const network = await loadNetwork(context, model, BATCH)
  return { device: 'CPU', transport: 'none', network, close: async () => context.destroy() }
}

/** The network on an accelerator, which is closed with it. */
export async function engineOn(
  model: Graph,
  accelerator: Accelerator,
  { device, transport, batch = BATCH }: { device: string; transport: string; batch?: number },
): Promise<Engine> {
  let tell = () => {}
  const closed = new Promise<void>((resolve) => {
    tell = resolve
  })
  const context = await ml.createContext({
    device: { ...accelerator, close: () => accelerator.close().finally(tell) },
  })
  const close = () => {
    context.destroy()
    return closed
  }
  try {
    return { device, transport, network: await loadNetwork(context, model, batch), close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The network on an NPU that is modelled in a process of its own and driven over vfio-user. */
export function modelEngine(model: Graph): Promise<Engine> {
  return npuEngine(model, async (scope) => connectVfioUser(await startModel(scope)))
}

/** The network on an NPU of this machine, which is bound to vfio-pci; by the interface that the kernel has, unless one is named. */
export function pciEngine(model: Graph, bdf: string, iommu?: IommuKind): Promise<Engine> {
  return npuEngine(model, () => openVfio(bdf, { iommu: iommu ?? 'auto' }))
}

async function npuEngine(model: Graph, open: (scope: Scope) => Promise<Transport>): Promise<Engine> {
  const scope = new Scope('the NPU of the example')
  try {
    const transport = await open(scope)
    const accel = new Accel()
    scope.defer(() => accel.close())
    let npu: Npu | undefined
    accel.register(
      npuDriver({
        onReady: (ready) => {
          npu = ready
        },
      }),
    )
    const node = await accel.add(transport)
    const { kind, iommu, emulated } = transport.identity
    const engine = await engineOn(model, await openNpuAccelerator(npu!), {
      device: `NPU-1 ${npu!.capabilities.version}${emulated ? ', emulated' : ''} (${node.name})`,
      transport: iommu === undefined ? kind : `${kind}, ${iommu}`,
    })
    scope.defer(() => engine.close())
    return { ...engine, close: () => scope.release() }
  } catch (error) {
    await scope.release()
    throw error
  }
}

/** Starts the model and waits until it serves. Answers the path of its socket. */
async function startModel(scope: Scope): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-digits-'))
  scope.defer(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'npu.sock')
  const model = fork(new URL('npu-process.js', import.meta.url), [path], { stdio: ['ignore', 2, 2, 'ipc'] })
  scope.defer(() => endModel(model))
  const signal = AbortSignal.timeout(processTimeoutMs)
  const ended = once(model, 'exit', { signal }).then(([code, killed]) => {
    throw accelError(
      'ERR_ACCEL_CLOSED',
      `the NPU's model ended at its start, by ${killed ?? `exit code ${code}`}`,
    )
  })
  ended.catch(() => {})
  try {
    await Promise.race([once(model, 'message', { signal }), ended])
  } catch (cause) {
    if (!signal.aborted) throw cause
    throw accelError('ERR_ACCEL_TIMEOUT', `the NPU's model did not start within ${processTimeoutMs} ms`, {
      cause,
    })
  }
  return path
}

/** Lets the model end by itself, and ends it where it does not. */
async function endModel(model: ChildProcess): Promise<void> {
  if (model.exitCode !== null || model.signalCode !== null) return
  const exited = once(model, 'exit')
  const timer = setTimeout(() => model.kill('SIGKILL'), processTimeoutMs)
  if (model.connected) model.disconnect()
  await exited
  clearTimeout(timer)
}
