import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { NpuRequest } from './npu.process.js'

/** A model of the NPU in a process of its own, until the test ends. */
export interface NpuProcess {
  readonly path: string
  readonly model: ChildProcess
  /** What the driver did that the device does not allow. */
  violations(): Promise<string[]>
}

export async function serveNpu(t: Test): Promise<NpuProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'npu.sock')
  const model = fork(fileURLToPath(new URL('./npu.process.js', import.meta.url)), [path])
  t.teardown(() => void model.kill())
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return {
    path,
    model,
    async violations() {
      model.send('violations' satisfies NpuRequest)
      const [message] = (await once(model, 'message')) as [{ violations: string[] }]
      return message.violations
    },
  }
}
