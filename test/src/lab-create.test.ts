import t from 'tap'
import { createPackage, packAll, requireEnd, runIn } from './packed.js'

t.setTimeout(900_000)

t.test("an author's package, from the tarballs: its model in QEMU, its driver on kernel VFIO", async (t) => {
  const folder = await createPackage(t, await packAll(t))
  const lab = await runIn(folder, ['npm', 'run', 'lab'])
  requireEnd(t, 'npm run lab', lab)
  t.match(lab.stdout, /^ok 1 - my-npu at 0000:01:00\.0 on kernel VFIO/m, 'the contract, in the guest')
  const [, total, passed] = /# \{ total: (\d+), pass: (\d+) \}/.exec(lab.stdout) ?? []
  t.equal(passed, total, 'nothing was skipped')
  t.ok(Number(total) >= 30, `${total} assertions`)
  t.match(lab.stdout, /^ok 1 - my-npu on kernel VFIO/m, 'and the model saw no violation')
})
