import t from 'tap'
import { follow, pages, wholeOf } from './guide/follow.js'
import { blocksOf, pattern, stepsOf } from './guide/page.js'

t.setTimeout(300_000)

t.test('blocks, steps, and what matches output', async (t) => {
  const page =
    'A\n```ts [a.ts]\nlet a\n```\n- b\n  ```sh lab\n  ls \\\n  a\n  pwd\n  ```\n```text\na\n...\n```\n'
  t.match(blocksOf(page), [
    { language: 'ts', file: 'a.ts', text: 'let a\n', line: 2 },
    { language: 'sh', flags: ['lab'], file: undefined, text: 'ls \\\na\npwd\n', line: 6 },
    { language: 'text' },
  ])
  t.match(stepsOf(page), [
    { do: 'write', file: 'a.ts', text: 'let a\n' },
    { do: 'run', commands: ['ls \\\na', 'pwd'], flags: ['lab'], prints: 'a\n...\n' },
  ])
  t.throws(() => stepsOf('```ts\nlet a\n```\n'), /line 1: a program without/)
  t.match('a\nb\nc\n', pattern('a\n...\nc\n'))
  t.match('a\nc\n', pattern('a\n...\nc\n'))
  t.match('a (5 ms)\n', pattern('a (...)\n'))
  for (const other of ['a\n', 'a\nc\nd\n', 'b\na\nc\n']) t.notMatch(other, pattern('a\n...\nc\n'))
})

t.test('a page that is wrong is told', async (t) => {
  for (const [page, words] of [
    ['```sh\necho a\n```\n```text\nb\n```\n', /line 1: the page says\nb\n\nand this was printed:\na/],
    ['```sh\nfalse\ntrue\n```\n', /line 1: false\nended with 1/],
  ] as const)
    await t.rejects(follow(stepsOf(page)), words)
})

for (const name of pages.keys())
  t.test(`${name}: each file compiles, each command prints what the page says`, async (t) => {
    await follow(wholeOf(name))
    t.pass('to its end')
  })
