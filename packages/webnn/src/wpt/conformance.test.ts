import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { countAll } from './count.test.helper.js'
import { digestOfPage, pageOf } from './page.test.helper.js'

const folder = process.env.UACCEL_WPT
const page = fileURLToPath(new URL('../../../../docs/webnn-conformance.md', import.meta.url))

t.test(
  'conformance cases of the web-platform-tests',
  { skip: folder === undefined && 'not run: UACCEL_WPT names no folder with the cases' },
  async (t) => {
    const counts = await countAll(folder!, ['CPU'])
    for (const [part, files] of counts.parts)
      for (const [file, [found]] of files) t.same(found!.failures, [], `${part}: ${file}`)
    const text = existsSync(page) ? readFileSync(page, 'utf8') : ''
    if (digestOfPage(text) !== counts.digest) return t.comment('docs/webnn-conformance.md is of other cases')
    t.equal(pageOf(await countAll(folder!)), text, 'docs/webnn-conformance.md: npm run wpt makes it anew')
  },
)
