import t from 'tap'
import { servedModel } from './index.js'

/** A client of a model that writes to its standard error, and that ends while it is asked for violations. */
t.test('a model that talks, and dies', async (t) => {
  const model = servedModel(t, new URL('./served-model.test.model.js', import.meta.url))
  const transport = await model.connect()
  await transport.reset()
  await transport.close()
  const asked = model.violations().then(
    () => 'answered',
    (error: { code: string }) => error.code,
  )
  await model.kill()
  t.comment(`asked: ${await asked}`)
  t.same(await model.violations(), [], 'nothing, where there is none')
})
