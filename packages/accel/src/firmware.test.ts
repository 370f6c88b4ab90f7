import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { firmwarePath, loadFirmware } from './firmware.js'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

t.test('the search path, in order', async (t) => {
  const env = { UACCEL_FIRMWARE_PATH: '/a:/b:relative:', XDG_DATA_HOME: '/data' }
  t.same(firmwarePath(['/own'], env), ['/own', '/a', '/b', '/data/uaccel/firmware', '/lib/firmware'])
  t.match(firmwarePath([], { XDG_DATA_HOME: '' })[0], /\.local\/share\/uaccel\/firmware$/)
})

t.test('the first file with the right digest is taken', async (t) => {
  const dir = t.testdir({ one: { acme: { 'fw.bin': 'old' } }, two: { acme: { 'fw.bin': 'new' } } })
  const folders = [join(dir, 'none'), join(dir, 'one'), join(dir, 'two')]
  const text = async (options: { sha256?: string }) =>
    Buffer.from(await loadFirmware('acme/fw.bin', options, folders)).toString()
  t.equal(await text({}), 'old')
  t.equal(await text({ sha256: sha256('new').toUpperCase() }), 'new')
  await t.rejects(text({ sha256: sha256('other') }), {
    code: 'ERR_ACCEL_FIRMWARE',
    details: {
      looked: [/none\/acme\/fw\.bin: ENOENT/, new RegExp(sha256('old')), new RegExp(sha256('new'))],
    },
  })
})

t.test('what is not a file is passed over', async (t) => {
  const dir = t.testdir({ 'fw.bin': {} })
  execFileSync('mkfifo', [join(dir, 'fifo.bin')])
  await t.rejects(loadFirmware('fw.bin', {}, [dir]), { code: 'ERR_ACCEL_FIRMWARE', message: /not a file/ })
  await t.rejects(loadFirmware('fifo.bin', {}, [dir]), { code: 'ERR_ACCEL_FIRMWARE', message: /not a file/ })
})

t.test('a name cannot leave the search path', async (t) => {
  const dir = t.testdir({ in: {}, 'secret.bin': 'secret' })
  for (const name of [
    '../secret.bin',
    join(dir, 'secret.bin'),
    'a/../../secret.bin',
    '',
    'a//b',
    './a',
    'a\0b',
  ]) {
    await t.rejects(loadFirmware(name, {}, [join(dir, 'in')]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, name)
  }
  await t.rejects(loadFirmware('a', { sha256: 'xyz' }, [dir]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})
