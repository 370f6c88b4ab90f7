import { accelError, type ErrorCode } from '@uaccel/uapi'
import pc from 'picocolors'
import t from 'tap'
import { ask } from './ask.js'
import { wantedBy } from './fields.js'
import type { CommonNode } from './find.js'
import { infoJson, infoLines, told } from './show.js'

const wanted = wantedBy(told.flatMap(({ items }) => items))

/** A node that answers what the test says, and nothing of all else. */
function node(queries: Readonly<Record<string, unknown>>, silence: ErrorCode): CommonNode {
  const refuse = () => Promise.reject(accelError(silence, 'the server says nothing'))
  const query = (kind: string) => (Object.hasOwn(queries, kind) ? Promise.resolve(queries[kind]) : refuse())
  return { name: 'accel0', query, common: refuse } as unknown as CommonNode
}

t.test('a node that says nothing at all is an error; one that says something has failures', async (t) => {
  await t.rejects(ask(node({}, 'ERR_ACCEL_TIMEOUT'), wanted), { code: 'ERR_ACCEL_TIMEOUT' })
  await t.rejects(ask(node({}, 'ERR_ACCEL_ABORTED'), wanted), { code: 'ERR_ACCEL_ABORTED' })
  await t.rejects(ask(node({}, 'ERR_ACCEL_NO_DEVICE'), wanted), { code: 'ERR_ACCEL_NO_DEVICE' })
  const { failures } = await ask(node({ clocks: undefined }, 'ERR_ACCEL_TIMEOUT'), wanted)
  t.ok(failures.length > 5)
  t.equal((await ask(node({}, 'ERR_ACCEL_IO'), wanted)).failures.length > 5, true)
})

t.test('units that a device names are no units of ours, and no terminal is too narrow', async (t) => {
  const sensor = { name: 'odd', kind: 'other', unit: 'time', exponent: -1, value: 15n, known: {} }
  const limit = { name: 'since', unit: 'time', value: 2n ** 64n - 1n }
  const snapshot = await ask(
    node(
      {
        sensors: { total: 1, entries: [sensor] },
        limits: { total: 1, entries: [limit] },
        identity: { name: 'a name of some length', known: {}, driver: 'odd', address: 'x'.repeat(100) },
      },
      'ERR_ACCEL_IO',
    ),
    wanted,
  )
  t.match(infoJson(snapshot), { sensors: [{ name: 'odd', value: 1.5 }], limits: [{ value: 2 ** 64 }] })
  for (const columns of [-1, 0, 1, 7, 20, 80]) {
    const lines = infoLines(snapshot, columns, pc.createColors(false))
    t.match(lines.join('\n'), /odd +1\.5/, `${columns} columns`)
  }
})
