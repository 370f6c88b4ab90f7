import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { countAll } from './count.test.helper.js'
import { pageOf } from './page.test.helper.js'

/* Writes docs/webnn-conformance.md from what UACCEL_WPT names, and tells each failure. */

const folder = process.env.UACCEL_WPT
if (folder === undefined) {
  console.error(
    'UACCEL_WPT names no folder: a checkout of web-platform-tests, or a folder with its cases as JSON',
  )
  process.exit(2)
}
const counts = await countAll(folder)
for (const files of counts.parts.values())
  for (const found of files.values())
    found.forEach(({ failures }, device) => {
      for (const failure of failures) console.error(`${device === 0 ? 'CPU' : 'NPU'}: ${failure}`)
    })
const page = fileURLToPath(new URL('../../../../docs/webnn-conformance.md', import.meta.url))
writeFileSync(page, pageOf(counts))
console.log(`${page} was written`)
