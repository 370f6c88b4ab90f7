import { readFileSync } from 'node:fs'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { npuUapi } from '@uaccel/driver-npu'
import { nvmeUapi } from '@uaccel/driver-nvme/uapi'
import {
  added,
  array,
  cmd,
  commonUapi,
  controlUapi,
  enumeration,
  errorTable,
  flags,
  nodeProtocol,
  queryUapi,
  type StructCodec,
  struct,
  type Uapi,
  u8,
  u32,
  u64,
  uapi,
} from '@uaccel/uapi'
import { cHeader, markdownReference } from '@uaccel/uapi/reference'
import fc, { type Arbitrary } from 'fast-check'
import t from 'tap'
import { complaints, runC } from './uapi/c-compiler.js'
import { type CCase, programOf, structValues } from './uapi/c-value.js'
import { anyUapi } from './uapi/schemas.js'

t.setTimeout(600_000)

/** Random uAPIs, and values of each; each is a run of the C compiler. */
const RUNS = Number(process.env.UACCEL_UAPI_RUNS ?? 20)

const known: Readonly<Record<string, Uapi>> = {
  common: commonUapi,
  query: queryUapi,
  node: nodeProtocol,
  control: controlUapi,
  edu: eduUapi,
  npu: npuUapi,
  nvme: nvmeUapi,
}

/** Structures by their tags, as the header names them. */
const structures = ({ name, commands }: Uapi): { tag: string; codec: StructCodec<never> }[] =>
  Object.values(commands).flatMap((command) =>
    (['in', 'out'] as const)
      .map((way) => ({ tag: `uaccel_${snake(name)}_${snake(command.name)}_${way}`, codec: command[way] }))
      .filter(({ codec }) => codec.layout.sizeBytes > 0),
  )

const snake = (name: string) =>
  name
    .replace(/-/g, '_')
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .toLowerCase()

/** `count` values of each structure. */
const cases = (uapi: Uapi, count: number): Arbitrary<CCase[]> =>
  fc
    .tuple(
      ...structures(uapi).map(({ tag, codec }) =>
        fc
          .array(structValues(codec), { minLength: count, maxLength: count })
          .map((values) => values.map((value) => ({ tag, codec, value }))),
      ),
    )
    .map((lists) => lists.flat())

/** What the codec makes of the values, one structure after the other. */
const encoded = (given: readonly CCase[]) =>
  Buffer.concat(given.map(({ codec, value }) => codec.encode(value as never, [])))

/** Runs the values through C in both directions. `ok` is true where all bytes are those of the codec. */
function sameInC(header: string, given: readonly CCase[]): boolean {
  const wanted = encoded(given)
  return wanted.equals(runC([header], programOf(given), wanted))
}

for (const [name, definition] of Object.entries(known)) {
  t.test(`${name}: the page and the header that are checked in are those of today`, async (t) => {
    for (const [file, text] of [
      [`${name}.md`, markdownReference(definition)],
      [`${name}.h`, cHeader(definition)],
    ]) {
      const checkedIn = readFileSync(new URL(`../../docs/uapi/${file}`, import.meta.url), 'utf8')
      t.ok(
        checkedIn === text,
        `docs/uapi/${file}: npx uaccel uapi ${name} --markdown --header --write docs/uapi`,
      )
    }
  })

  t.test(`${name}: C and the codec write the same bytes, and read each other's`, async (t) => {
    const header = cHeader(definition)
    t.equal(complaints(header), '')
    for (const given of fc.sample(cases(definition, 5), 2)) t.ok(sameInC(header, given))
  })
}

t.test('common commands and those of drivers in one program', async (t) => {
  const headers = Object.values(known).map(cHeader)
  runC(
    [...headers, ...headers],
    'int main(void) { return UACCEL_EDU_CMD_FACTORIAL - 0x40; }',
    new Uint8Array(),
  )
  const digest = runC(
    headers,
    '#include <stdio.h>\nint main(void) { return fwrite(UACCEL_NPU_UAPI_DIGEST, 1, 32, stdout) != 32; }',
    new Uint8Array(),
  )
  t.equal(Buffer.from(digest).toString('hex'), npuUapi.digest)
})

t.test("any uAPI: C and the codec write the same bytes, and read each other's", async () => {
  fc.assert(
    fc.property(
      anyUapi.chain((definition) => fc.tuple(fc.constant(definition), cases(definition, 3))),
      ([definition, given]) => {
        const header = cHeader(definition)
        const said = complaints(header)
        if (said !== '') throw new Error(said)
        return sameInC(header, given)
      },
    ),
    { numRuns: RUNS },
  )
})

t.test('constants have the values of the definition', async (t) => {
  const options = flags({ wait: 0, veryUrgent: 31 })
  const kind = enumeration({ none: 0, INT8: 7, int8: 8, '4-bit': 2 ** 32 - 1 })
  const header = cHeader(
    uapi({
      name: 'my-npu',
      version: 3,
      commands: {
        runJob: cmd(0x1234, {
          in: { options, jobs: array(struct({ kind }), 2), m: added(2, u8), n: added(3, u64) },
        }),
      },
    }),
  )
  const constants = {
    UACCEL_MY_NPU_UAPI_VERSION: 3,
    UACCEL_MY_NPU_CMD_RUN_JOB: 0x1234,
    UACCEL_MY_NPU_RUN_JOB_IN_OPTIONS_WAIT: 1,
    UACCEL_MY_NPU_RUN_JOB_IN_OPTIONS_VERY_URGENT: 2 ** 31,
    UACCEL_MY_NPU_RUN_JOB_IN_JOBS_KIND_NONE: 0,
    UACCEL_MY_NPU_RUN_JOB_IN_JOBS_KIND_INT8: 7,
    UACCEL_MY_NPU_RUN_JOB_IN_JOBS_KIND_INT8_: 8,
    UACCEL_MY_NPU_RUN_JOB_IN_JOBS_KIND_4_BIT: 2 ** 32 - 1,
    UACCEL_MY_NPU_RUN_JOB_IN_SIZE_V1: 16,
    UACCEL_MY_NPU_RUN_JOB_IN_SIZE_V2: 20,
    UACCEL_MY_NPU_RUN_JOB_IN_SIZE_V3: 32,
  }
  const shown = Object.keys(constants).map((name) => `printf("%llu\\n", (unsigned long long)${name});`)
  const main = `#include <stdio.h>\nint main(void) { ${shown.join(' ')} return 0; }`
  const printed = Buffer.from(runC([header], main, new Uint8Array()))
    .toString()
    .trim()
    .split('\n')
  t.same(printed.map(Number), Object.values(constants))
  const errors = runC(
    [cHeader(commonUapi)],
    '#include <stdio.h>\nint main(void) { return printf("%d", ERR_ACCEL_DEADLOCK) < 0; }',
    new Uint8Array(),
  )
  t.equal(Buffer.from(errors).toString(), `${errorTable.ERR_ACCEL_DEADLOCK.number}`)
})

t.test('names that C has, and names that would be the same', async (t) => {
  const names = ['int', 'errno', 'dataLength', 'data', 'class', 'unix', 'staticAssert', 'dataURL', 'dataUrl']
  const fields = Object.fromEntries(names.map((name) => [name, name === 'data' ? u8 : u32]))
  const header = cHeader(
    uapi({
      name: 'x',
      version: 1,
      commands: { a: cmd(0x40, { in: fields }), aIn: cmd(0x41, { in: fields }), do: cmd(0x42) },
    }),
  )
  t.equal(complaints(`#include <errno.h>\n${header}`), '')
  for (const member of [
    'int_',
    'errno_',
    'data_length',
    'data',
    'class_',
    'unix_',
    'static_assert_',
    'data_url',
    'data_url_',
  ])
    t.match(header, `\t${member === 'data' ? 'uint8_t' : 'uint32_t'} ${member};\n`)
})

t.test('a header of another layout does not compile', async (t) => {
  const header = cHeader(eduUapi)
  for (const [from, to, about] of [
    ['\tuint8_t reserved_4099[1];\n', '', /offset|size|no member/],
    ['\tuint32_t n;\n', '\tuint64_t n;\n', /static assertion failed.*size/],
    [
      '\tuint32_t type;\n\tuint32_t count;\n',
      '\tuint32_t count;\n\tuint32_t type;\n',
      /static assertion failed.*offset/,
    ],
  ] as const) {
    t.ok(header.includes(from), from)
    t.match(complaints(header.replace(from, to)), about)
  }
})

t.test('a difference between C and the codec is seen', async (t) => {
  const header = cHeader(eduUapi)
  const { factorial } = eduUapi.commands
  const given = [{ tag: 'uaccel_edu_factorial_in', codec: factorial.in, value: { n: 5 } }]
  t.ok(sameInC(header, given))
  const program = programOf(given)
  t.throws(() => runC([header], program, Uint8Array.of(5, 0, 0, 1)), /case_0, line/, 'in what C reads')
  const wrong = program.replace('v.n = (5);', 'v.n = (6);')
  t.same([...runC([header], wrong, encoded(given))], [6, 0, 0, 0], 'in what C writes')
})
