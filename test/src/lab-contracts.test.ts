import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { ended, forked } from './faults/bench.js'
import { runGuest } from './guest.js'

t.setTimeout(1_200_000)

t.test('the suites on kernel VFIO, in the lab', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const serve = async (name: 'edu' | 'npu') => {
    const path = join(folder, `${name}.sock`)
    const model = await forked('model', name, path)
    t.teardown(() => ended(model))
    return path
  }
  const [edu, npu] = [await serve('edu'), await serve('npu')]
  const { exitCode, stdout, stderr } = await runGuest('contracts', {
    devices: ['edu=port/edu', `model=vfio-user:${edu}`, `npu=vfio-user:${npu}`],
    limitMs: 1_000_000,
  })
  const cells = keepPrinted(stdout)
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const { suite, column, passed } of cells) t.ok(passed, `${suite} on ${column}`)
  // Where the kernel has no iommufd, its lane is missing; the table says so.
  t.ok(cells.length >= 14, `${cells.length} cells`)
})
