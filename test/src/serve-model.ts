import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { ended, forked } from './faults/bench.js'
import type { ModelRequest } from './faults/model.process.js'
import type { DeviceName } from './faults/models.js'

/** A model in a process of its own, until the test ends. */
export interface ServedModel {
  readonly path: string
  /** What the drivers did that the device does not allow. */
  violations(): Promise<readonly string[]>
}

export async function serveModel(t: Test, name: DeviceName): Promise<ServedModel> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, `${name}.sock`)
  const model = await forked('model', name, path)
  t.teardown(() => ended(model))
  return {
    path,
    async violations() {
      model.send('violations' satisfies ModelRequest)
      const [answer] = await once(model, 'message')
      return (answer as { violations: string[] }).violations
    },
  }
}
