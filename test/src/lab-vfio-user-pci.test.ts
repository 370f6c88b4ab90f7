import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { iommuKinds } from '@uaccel/core'
import t, { type Test } from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'
import { start } from './uaccel.js'

t.setTimeout(1_200_000)

interface EduProcess {
  readonly path: string
  readonly pid: number
  /** Ends it; what it had to say. */
  stop(): Promise<string>
}

/** Serves our model of edu in a process of its own. */
async function serveEdu(t: Test): Promise<EduProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'edu.sock')
  const model = start(['model', 'edu', '--socket', path])
  t.teardown(() => void model.kill('SIGKILL'))
  const said = text(model.stderr!)
  const ended = once(model, 'exit')
  for (let tries = 0; !existsSync(path) && tries < 300; tries++)
    await new Promise((go) => setTimeout(go, 100))
  return {
    path,
    pid: model.pid!,
    async stop() {
      model.kill('SIGTERM')
      t.strictSame(await ended, [0, null], 'the model ends in order')
      return said
    },
  }
}

/** The guest's memory as a memfd that QEMU did not seal: our server does not map such, see docs/design/0002. */
const unsealed = [
  ...['-object', 'memory-backend-memfd,id=unsealed,size=1024M,share=on,seal=off'],
  ...['-machine', 'memory-backend=unsealed'],
]

t.test("our model of edu as a device of QEMU's, DMA by messages, behind a root port", async (t) => {
  const model = await serveEdu(t)
  let mapped = false
  const watch = setInterval(() => {
    mapped ||= readFileSync(`/proc/${model.pid}/maps`, 'utf8').includes('memfd:memory-backend')
  }, 100)
  const { exitCode, stdout, stderr } = await runGuest('edu', {
    devices: [`edu=port/vfio-user:${model.path}`],
    cpus: 2,
    qemuArgs: unsealed,
  }).finally(() => clearInterval(watch))
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  t.notOk(mapped, 'the model did not reach the memory but by messages')
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `edu over kernel VFIO by ${iommu}, every access trapped`),
    'left to choose, it takes iommufd where the kernel has it',
    'a trace of it has registers by name, the interrupt, the memory and the command',
  ])
  const said = await model.stop()
  t.match(said, /client connected/)
  t.notMatch(said, /violation/, 'no access that the device does not have')
})
