import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { added, cmd, commonUapi, controlUapi, nodeProtocol, queryUapi, u8, u32, uapi } from '../index.js'
import { abiOf, formatAbi, parseAbi, requireSnapshot } from './index.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-abi-'))
t.teardown(() => rmSync(folder, { recursive: true }))

for (const [uapi, folder] of [
  [commonUapi, '.'],
  [queryUapi, 'abi/query'],
  [nodeProtocol, 'abi/node'],
  [controlUapi, 'abi/control'],
] as const) {
  t.test(`${uapi.name} has the ABI that is checked in`, async () => {
    requireSnapshot(
      uapi,
      new URL(`../../${folder}/abi.json`, import.meta.url),
      `npx uaccel uapi ${uapi.name} --json --write packages/uapi/${folder}`,
    )
  })
}

const v1 = uapi({ name: 'x', version: 1, commands: { a: cmd(0x40, { in: { a: u8, n: u32 } }) } })
const v2 = uapi({
  name: 'x',
  version: 2,
  commands: { a: cmd(0x40, { in: { a: u8, n: u32, m: added(2, u32) } }) },
})

t.test('a snapshot holds layouts as plain data', async (t) => {
  t.same(JSON.parse(formatAbi(abiOf(v2))), {
    format: 1,
    name: 'x',
    version: 2,
    digest: v2.digest,
    commands: [
      {
        number: 0x40,
        name: 'a',
        in: {
          sizeBytes: 12,
          minSizeBytes: 8,
          fields: [
            { name: 'a', offset: 0, sizeBytes: 1, type: 'u8' },
            { name: 'n', offset: 4, sizeBytes: 4, type: 'u32' },
            { name: 'm', offset: 8, sizeBytes: 4, since: 2, type: 'u32' },
          ],
          reserved: [{ offset: 1, sizeBytes: 3 }],
        },
        out: { sizeBytes: 0, minSizeBytes: 0, fields: [], reserved: [] },
      },
    ],
  })
  t.same(parseAbi(formatAbi(abiOf(commonUapi)), 'x'), abiOf(commonUapi))
})

t.test('a snapshot that is missing, stale or broken says what to do', async (t) => {
  const path = join(folder, 'abi.json')
  const rewrite = 'npx uaccel uapi x --json --write .'
  const refused = (text: string, wanted: { code: string; message: RegExp }) => {
    writeFileSync(path, text)
    t.throws(() => requireSnapshot(v2, path, rewrite), wanted)
  }
  t.throws(() => requireSnapshot(v1, path, rewrite), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /abi\.json.*: npx uaccel uapi x --json --write \.$/,
    cause: { code: 'ENOENT' },
  })
  writeFileSync(path, formatAbi(abiOf(v2)))
  t.doesNotThrow(() => requireSnapshot(v2, path, rewrite))
  t.throws(() => requireSnapshot(v1, path, rewrite), {
    code: 'ERR_ACCEL_VERSION',
    message: /x went back from version 2 to 1\n {2}x\.a\.in\.m is gone\n.* --write \. --force$/,
  })
  refused(formatAbi(abiOf(v1)), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /Nothing breaks: write it anew.*--write \.\n {2}x\.a\.in\.m is new in version 2$/,
  })
  refused(`${formatAbi(abiOf(v2))}\n`, { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /write it anew/ })
  refused('<<<<<<< HEAD\n', { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /is no JSON/ })
  refused('{"format":2}', { code: 'ERR_ACCEL_VERSION', message: /has format 2.*reads 1/ })
  for (const text of [
    'null',
    '[]',
    '{}',
    '{"format":1}',
    '{"format":1,"name":"x","version":1,"commands":{}}',
    '{"format":1,"name":"x","version":1,"commands":[null]}',
    '{"format":1,"name":"x","version":1,"commands":[{"name":"a","number":1,"in":{},"out":{}}]}',
    '{"format":1,"name":"x","version":1,"commands":[{"name":"a","number":1,"in":{"fields":[1]},"out":{"fields":[]}}]}',
  ])
    refused(text, { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /is no ABI snapshot/ })
})
