import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/** The sources themselves, seen from where this test was compiled to. */
const root = new URL('../../', import.meta.url)

function imports(folder: string): { file: string; from: string }[] {
  const url = new URL(`${folder}/`, root)
  return readdirSync(fileURLToPath(url), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .flatMap((file) => {
      const text = readFileSync(fileURLToPath(new URL(file, url)), 'utf8')
      return [...text.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, from]) => ({
        file: `${folder}/${file}`,
        from,
      }))
    })
}

t.test('the model takes nothing from the driver, nor the driver from the model', async (t) => {
  const model = imports('model')
  const driver = imports('src')
  t.ok(model.length > 10 && driver.length > 10, 'both were read')
  const inModel = (file: string, from: string) => join(dirname(file), from).startsWith('model/')
  const allowedInModel = (file: string, from: string) =>
    from.startsWith('.') ? inModel(file, from) : from === '@uaccel/model'
  t.strictSame(
    model.filter(({ file, from }) => !allowedInModel(file, from)),
    [],
  )
  t.strictSame(
    driver.filter(
      ({ file, from }) =>
        from.includes('model') || (from.startsWith('.') && !join(dirname(file), from).startsWith('src/')),
    ),
    [],
  )
})

t.test('the reference imports nothing', async (t) => {
  t.strictSame(
    imports('test').filter(({ file }) => file.endsWith('reference.ts')),
    [],
  )
})
