import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { keptCells } from './cells.js'
import { type Column, columns, impossible, type Suite, suites } from './matrix.js'

/**
 * Last step of the tests: makes the table of contract suites and transports from what the runs kept, and holds it
 * against docs/transports.md. `--write` writes it there. In CI every cell has to be there.
 */
const page = fileURLToPath(new URL('../../../docs/transports.md', import.meta.url))
const names = Object.keys(columns) as Column[]
const rows = Object.keys(suites) as Suite[]
const kept = new Map(keptCells().map((cell) => [`${cell.suite} on ${cell.column}`, cell]))

const notes: string[] = []
const missing: string[] = []
const failed: string[] = []

function cell(suite: Suite, column: Column): string {
  const why = impossible[suite]?.[column]
  if (why !== undefined) {
    const known = notes.indexOf(why)
    return `[${known < 0 ? notes.push(why) : known + 1}]`
  }
  const name = `${suite} on ${column}`
  const found = kept.get(name)
  if (found === undefined) missing.push(name)
  else if (!found.passed) failed.push(name)
  return 'passes'
}

const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
const body = rows.map((suite) => line([suites[suite], ...names.map((column) => cell(suite, column))]))
const table = [
  line(['', ...names.map((name) => columns[name])]),
  line(['---', ...names.map(() => '---')]),
  ...body,
]
const text = `# What was run on which way to a device

Made by the tests themselves: \`npm test\` runs each suite on each transport, and ends with an error where a cell of this table did
not pass. Do not edit: \`node test/dist/contracts/table.js --write\` after \`npm test\` writes it anew.

${table.join('\n')}

${notes.map((note, i) => `[${i + 1}] ${note}`).join('\n\n')}
`

const complain = (what: string, cells: readonly string[]) => {
  if (cells.length > 0) process.stderr.write(`${what}: ${cells.join(', ')}\n`)
}
complain('failed', failed)
complain('not run here', missing)
if (failed.length > 0 || (missing.length > 0 && process.env.CI)) process.exitCode = 1
else if (missing.length === 0 && process.argv.includes('--write')) writeFileSync(page, text)
else if (missing.length === 0 && readFileSync(page, 'utf8') !== text) {
  process.stderr.write(
    'docs/transports.md is not what the tests say: node test/dist/contracts/table.js --write\n',
  )
  process.exitCode = 1
} else
  process.stderr.write(
    `${rows.length * names.length - missing.length} cells pass or say why they cannot be\n`,
  )
