import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Accel } from '@uaccel/accel'
import { Scope } from '@uaccel/core'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { accelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import { type MLContext, ml } from '@uaccel/webnn'

/** A context, and what its device is called. */
export interface Device {
  /** As reports have it, such as `NPU-1 1.1, emulated (accel0)`. */
  readonly name: string
  /** How the device is reached, such as `vfio-user`. */
  readonly transport: string
  readonly context: MLContext
  close(): Promise<void>
}

/** Limit for the model's process to start, and to end, in milliseconds. */
const processTimeoutMs = 10_000

/**
 * `npu`: an NPU that is modelled in a process of its own, driven here over vfio-user; `cpu`; else the name of a node, such as `accel0`, or the path of
 * its socket: the driver is in another process then. Errors: those of `ml.createContext`; `ERR_ACCEL_TIMEOUT` and `ERR_ACCEL_CLOSED` where the
 * model's process does not start.
 */
export async function openDevice(device: string): Promise<Device> {
  if (device === 'npu') return modelledNpu()
  const context = await ml.createContext(device === 'cpu' ? { deviceType: 'cpu' } : { device })
  return {
    name: device === 'cpu' ? 'CPU' : device,
    transport: device === 'cpu' ? 'none' : 'node',
    context,
    close: async () => context.destroy(),
  }
}

async function modelledNpu(): Promise<Device> {
  const scope = new Scope('the NPU of the example')
  try {
    const transport = await connectVfioUser(await startModel(scope))
    const accel = new Accel()
    scope.defer(() => accel.close())
    const ready: Npu[] = []
    accel.register(npuDriver({ onReady: (npu) => ready.push(npu) }))
    const node = await accel.add(transport)
    const npu = ready[0]!
    const context = await ml.createContext({ device: await openNpuAccelerator(npu) })
    scope.defer(() => context.destroy())
    return {
      name: `NPU-1 ${npu.capabilities.version}, emulated (${node.name})`,
      transport: transport.identity.kind,
      context,
      close: () => scope.release(),
    }
  } catch (error) {
    await scope.release()
    throw error
  }
}

/** Starts the model and waits until it serves. Answers the path of its socket. */
async function startModel(scope: Scope): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-npu-'))
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
