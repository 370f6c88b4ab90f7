import { once } from 'node:events'
import type { Test } from 'tap'
import { start } from './uaccel.js'

/** `uaccel model NAME` in a process of its own until the test ends. Answers its socket, as `folder` sees it. */
export async function serveModelCommand(t: Test, name: string, folder: string): Promise<string> {
  const socket = `./${name}-${process.hrtime.bigint()}.sock`
  const model = start(['model', name, '--socket', socket], { cwd: folder })
  t.teardown(async () => {
    if (model.exitCode !== null || model.signalCode !== null) return
    model.kill()
    await once(model, 'exit')
  })
  for await (const _ of model.stderr!.iterator({ destroyOnReturn: false })) break
  model.stderr!.resume()
  return socket
}
