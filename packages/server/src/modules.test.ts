import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { loadModel } from './modules.js'

t.test('the model of a module: its default, or its only one', async (t) => {
  const folder = t.testdir()
  const edu = import.meta.resolve('@uaccel/driver-edu/model')
  const load = (text: string, i: number) => {
    const path = join(folder, `${i}.mjs`)
    writeFileSync(path, text)
    return loadModel(pathToFileURL(path).href)
  }
  const models = [
    `export { eduModel } from '${edu}'`,
    `export { eduModel, eduModel as same } from '${edu}'`,
    `import { eduModel } from '${edu}'; export const other = { ...eduModel }; export default eduModel`,
  ]
  for (const [i, text] of models.entries()) t.match((await load(text, i)).identity, { name: 'edu' }, text)
  const none = [
    ['export default {}', /exports no model/],
    [
      `import { eduModel } from '${edu}'; export const other = { ...eduModel }; export { eduModel }`,
      /several models/,
    ],
  ] as const
  for (const [i, [text, said]] of none.entries())
    await t.rejects(load(text, 9 + i), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: said }, text)
})
