import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { type JsonNode, jsonNode, parseJson } from './json.js'
import { Numbers } from './numbers.js'

/** What JSON.parse would have made of it. */
function plain({ value }: JsonNode): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [key, plain(member)]))
  return Array.isArray(value) ? value.map(plain) : value
}

/** Whether a text is taken. Other errors than of the table end the test. */
function taken(text: string): boolean {
  try {
    parseJson(text, 'f')
    return true
  } catch (error) {
    if (isAccelError(error, 'ERR_ACCEL_INVALID_ARGUMENT')) return false
    throw error
  }
}

function valid(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

t.test('any value, however it is spaced, is read as JSON.parse reads it', async () => {
  const json = fc.json({ maxDepth: 6 })
  fc.assert(
    fc.property(json, fc.constantFrom(0, 2, '\t'), (text, space) => {
      const spaced = JSON.stringify(JSON.parse(text), undefined, space)
      if (JSON.stringify(plain(parseJson(spaced, 'f'))) !== JSON.stringify(JSON.parse(spaced)))
        throw new Error(spaced)
      if (JSON.stringify(plain(jsonNode(JSON.parse(spaced)))) !== JSON.stringify(JSON.parse(spaced)))
        throw new Error(`as a value: ${spaced}`)
    }),
    { numRuns: 300 },
  )
})

t.test('of any text, what JSON.parse takes is taken, and nothing else', async () => {
  const piece = fc.constantFrom(
    ...[
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      ' ',
      '\n',
      '"',
      '"a"',
      '"b"',
      '\\',
      '\\n',
      '\\u0041',
      '\\x',
      '0',
      '-',
      '1.5',
      '01',
    ],
    ...['1e', '1e5', 'true', 'null', 'nul', 'x', '\u0001', '\u007f', '\u2028', '😀', '\ud800', '/'],
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('')
      // A comment is ours alone, and so is that no name stands twice; a lone surrogate is in no UTF-8 file.
      if (text.includes('//') || /("[ab]").*\1/s.test(text) || Buffer.from(text).toString() !== text) return
      if (taken(text) !== valid(text)) throw new Error(JSON.stringify(text))
    }),
    { numRuns: 5000 },
  )
})

t.test('numbers that somebody else wrote', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-numbers-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const devices = ['a', 'b'].map((key) => ({ key, number: undefined }))
  const given = (text: string) => {
    writeFileSync(join(folder, '.numbers.json'), text)
    return Object.fromEntries(new Numbers(folder).assign(devices))
  }
  t.same(given('{ "a": 5, "c": 0 }'), { a: 5, b: 1 })
  for (const text of ['', '[', 'null', '7', '{ "a": -1, "b": "x" }', '{ "a": 1.5, "b": 99999999 }', '["a"]'])
    t.same(given(text), { a: 0, b: 1 }, text)
  t.same(given('{ "a": 3, "b": 3 }'), { a: 3, b: 0 }, 'one number for two')
  const numbers = new Numbers(folder)
  t.same(Object.fromEntries(numbers.assign([{ key: 'b', number: 3 }, ...devices.slice(0, 1)], [0])), {
    b: 3,
    a: 1,
  })
})
