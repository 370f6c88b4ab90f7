import { readFileSync, writeFileSync } from 'node:fs'
import { errorTable } from '@uaccel/uapi'
import { errorHelp, errorsReference } from '@uaccel/uapi/reference'
import t from 'tap'

const page = new URL('../../docs/guide/errors.md', import.meta.url)
const marks = /(<!-- errors: .*-->\n)([\s\S]*?)(<!-- end -->)/

t.test('docs/guide/errors.md has each code of the table, and no other', async (t) => {
  const text = readFileSync(page, 'utf8')
  if (process.argv.includes('--write')) {
    writeFileSync(
      page,
      text.replace(marks, (_all, before, _old, after) => `${before}\n${errorsReference()}\n${after}`),
    )
    return
  }
  const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
  t.same(headings, Object.keys(errorTable))
  t.same(Object.keys(errorHelp).sort(), Object.keys(errorTable).sort())
  t.equal(marks.exec(text)?.[2], `\n${errorsReference()}\n`, 'node test/dist/errors-page.test.js --write')
})
