import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Accel, type AccelClient } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { Faults, loopback } from '@uaccel/model'
import { type AccelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import type { ModelRequest } from './model.process.js'
import { type DeviceName, type FaultName, models } from './models.js'

/** A model that misfortunes can befall, and a way to it. */
export interface Victim {
  connect(): Promise<Transport>
  befall(fault: FaultName, ...args: unknown[]): Promise<void>
  /** Descriptors of the model's process, where it has one of its own. */
  descriptors(): number | undefined
  end(): Promise<void>
}

/** The model in this process. */
export async function inProcess(name: DeviceName): Promise<Victim> {
  let faults = new Faults()
  return {
    async connect() {
      const [definition, model] = models[name]
      faults = new Faults()
      return loopback(definition, { model, faults, strict: false })
    },
    async befall(fault, ...args) {
      ;(faults[fault] as (...args: unknown[]) => void)(...args)
    },
    descriptors: () => undefined,
    async end() {},
  }
}

/** The model in a process of its own, behind vfio-user. */
export async function inOwnProcess(name: DeviceName): Promise<Victim> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  const path = join(folder, 'model.sock')
  const model = await forked('model', name, path)
  return {
    connect: () => connectVfioUser(path),
    async befall(fault, ...args) {
      const done = once(model, 'message')
      model.send({ fault, args } satisfies ModelRequest)
      await done
    },
    descriptors: () => readdirSync(`/proc/${model.pid}/fd`).length,
    async end() {
      await ended(model)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A program of this folder that has said that it is ready. */
export async function forked(program: string, ...args: string[]): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL(`./${program}.process.js`, import.meta.url)), args)
  await Promise.race([once(child, 'message'), once(child, 'exit')])
  return child
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  if (child.connected) child.disconnect()
  await gone
}

/** A device under its driver, and what the subsystem told of it. */
export interface Bench {
  readonly accel: Accel
  readonly victim: Victim
  readonly edu: AccelClient<typeof eduUapi>
  readonly npu: Npu
  /** Errors that no caller was told of. */
  readonly errors: readonly AccelError[]
  /** When this process first knew that the device goes, as `performance.now` gives it. Undefined before. */
  readonly detectedAt: number | undefined
  readonly removed: Promise<void>
}

/** Short limits, so that a suite of many rounds ends: the defaults are those of slow hardware. */
const limits = { probeMs: 5000, recoverMs: 300, settleMs: 200 }

/** Brings the device up, does `work`, and takes everything down. */
export async function withBench(
  name: DeviceName,
  victim: Victim,
  work: (bench: Bench) => Promise<void>,
): Promise<void> {
  const errors: AccelError[] = []
  const npus: Npu[] = []
  const accel = new Accel({ limits })
  accel.on('error', (error) => errors.push(error))
  accel.register(name === 'edu' ? edu : npuDriver({ onReady: (npu) => npus.push(npu) }))
  const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
  let detectedAt: number | undefined
  const detected = () => {
    detectedAt ??= performance.now()
  }
  accel.once('lost', detected)
  let client: AccelClient<typeof eduUapi> | undefined
  try {
    const transport = await victim.connect()
    transport.onLost(detected)
    await accel.add(transport)
    transport.onRequest(detected)
    await work({
      accel,
      victim,
      errors,
      removed,
      get detectedAt() {
        return detectedAt
      },
      get edu() {
        client ??= accel.open(eduUapi, 'accel0')
        return client
      },
      get npu() {
        return npus.at(-1)!
      },
    })
  } finally {
    await accel.close()
  }
}

/** How a promise ended, and when: the code of its error, or `done`. */
export async function endOf(promise: Promise<unknown>): Promise<{ code: string; at: number }> {
  try {
    await promise
    return { code: 'done', at: performance.now() }
  } catch (error) {
    return { code: isAccelError(error) ? error.code : `${error}`, at: performance.now() }
  }
}
