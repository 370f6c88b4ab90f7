import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readConfig } from './config.js'
import { configReference } from './config-schema.js'

const page = new URL('../../../docs/serve.md', import.meta.url)
const marks = /(<!-- keys: .*-->\n)([\s\S]*?)(<!-- end -->)/

t.test('docs/serve.md tells each key', async (t) => {
  const text = readFileSync(page, 'utf8')
  if (process.argv.includes('--write'))
    writeFileSync(
      page,
      text.replace(marks, (_all, before, _old, after) => `${before}\n${configReference()}\n${after}`),
    )
  else
    t.equal(
      marks.exec(text)?.[2],
      `\n${configReference()}\n`,
      'node packages/server/dist/reference.test.js --write',
    )
})

t.test('its example can be served', async (t) => {
  const [, example = ''] = /```jsonc\n([\s\S]*?)```/.exec(readFileSync(page, 'utf8')) ?? []
  const file = join(t.testdir({ 'uaccel.json': example }), 'uaccel.json')
  const { folder, entries, metrics, control } = await readConfig({ file, drivers: [], resolveFrom: [] })
  t.same([folder, metrics, control], ['/run/uaccel', '127.0.0.1:9464', { mode: 0o666 }])
  t.same(
    entries.map(({ selector }) => selector.kind),
    ['address', 'id', 'vfioUser', 'model', 'all'],
  )
  t.match(entries[0]?.settings, { exclusive: true, mode: 0o660, limits: { maxRequests: 32 } })
})
