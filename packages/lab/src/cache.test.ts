import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { cached, cacheFolder, keep, withWorkFolder } from './cache.js'

const home = await mkdtemp(join(tmpdir(), 'lab-cache-'))
process.env.XDG_CACHE_HOME = home
t.teardown(() => rm(home, { recursive: true }))

t.test('stands where XDG_CACHE_HOME says', async (t) => {
  t.equal(cacheFolder(), join(home, 'uaccel', 'lab'))
})

t.test('a folder is made once, also for two who ask at a time', async (t) => {
  let fills = 0
  const fill = async (result: string) => {
    fills++
    await writeFile(join(result, 'file'), 'whole')
  }
  const [first, second] = await Promise.all([cached('tools', fill), cached('tools', fill)])
  t.equal(first, second)
  t.equal(await readFile(join(first, 'file'), 'utf8'), 'whole')
  await cached('tools', fill)
  t.equal(fills, 1)
})

t.test('a failure leaves nothing, and the next attempt starts anew', async (t) => {
  const broken = cached('kernel', async (result) => {
    await writeFile(join(result, 'half'), '')
    throw new Error('network')
  })
  await t.rejects(broken, { message: 'network' })
  t.strictSame(await readdir(cacheFolder()), ['tools'])
  const folder = await cached('kernel', async () => {})
  t.strictSame(await readdir(folder), [])
})

t.test('what a killed process left is swept away, what a living one works on is not', async (t) => {
  const dead = join(cacheFolder(), 'tmp-4194305-x') // above the largest process id, PID_MAX_LIMIT
  const living = join(cacheFolder(), `tmp-${process.ppid}-x`)
  await mkdir(join(dead, 'result'), { recursive: true })
  await mkdir(living)
  await withWorkFolder(async () => {})
  t.notOk(existsSync(dead))
  t.ok(existsSync(living))
})

t.test('a folder that is kept takes the place of the one before', async (t) => {
  for (const text of ['old', 'new']) {
    await withWorkFolder(async (work) => {
      await mkdir(join(work, 'result'))
      await writeFile(join(work, 'result', text), '')
      await keep(join(work, 'result'), 'built')
    })
  }
  t.strictSame(await readdir(join(cacheFolder(), 'built')), ['new'])
  t.notOk((await readdir(cacheFolder())).some((name) => name.startsWith(`tmp-${process.pid}-`)))
})
