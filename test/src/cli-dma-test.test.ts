import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serveModelCommand } from './served-model.js'
import { uaccel } from './uaccel.js'

/** `uaccel dma-test` on models in another process. */

t.setTimeout(120_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const run = (...args: string[]) => uaccel(['dma-test', ...args], { cwd: folder })

t.test('bytes, and the address bits that a device drives', async (t) => {
  const edu = await serveModelCommand(t, 'edu', folder)
  const text = await run(edu)
  t.match(text, { code: 0, stderr: '' })
  t.match(
    text.stdout,
    /\(edu\): \d+ copies, .* KiB\n {2}Every byte arrived.*\n {2}The device drives 28 address bits\.\n/,
  )
  const json = await run(edu, '--json')
  t.match(JSON.parse(json.stdout), {
    driver: 'edu',
    driverBits: 28,
    width: { bits: 28, exact: true, beyond: { access: 'read', iova: /^0x1000\w+$/ } },
  })
  const npu = JSON.parse((await run(await serveModelCommand(t, 'npu', folder), '--json')).stdout)
  t.match(npu, { driver: 'npu', driverBits: 64, width: { bits: 52, exact: false } })
})

t.test('what does not work', async (t) => {
  const crypto = await serveModelCommand(t, 'virtio-crypto', folder)
  t.match(await run(crypto), { code: 1, stdout: '', stderr: /virtio-crypto has no copy.*UNSUPPORTED/s })
  t.match(await run('./none.sock'), { code: 3, stdout: '', stderr: /NOT_FOUND/ })
  t.match(await run(), { code: 2, stderr: /missing required argument/ })
  t.match(await run('--help'), { code: 0, stdout: /Examples:/ })
})
