import t from 'tap'
import { uaccel } from './uaccel.js'

/** `uaccel faults` on this machine, whatever there is to tell. */

t.setTimeout(60_000)

t.test('faults', async (t) => {
  const all = await uaccel(['faults', '--json'])
  t.equal(all.code, 0, 'also for a user who may not read the log, who is told')
  const { iommu } = JSON.parse(all.stdout)
  t.ok(iommu === undefined ? all.stderr.length > 0 : Array.isArray(iommu))
  t.match(await uaccel(['faults', 'fffe:ff:1f.7']), { code: 3, stdout: '', stderr: /NOT_FOUND/ })
  t.match(await uaccel(['faults', '5.0']), { code: 1, stdout: '', stderr: /INVALID_ARGUMENT/ })
  t.match(await uaccel(['faults', '--help']), { code: 0, stdout: /Examples:/ })
})
