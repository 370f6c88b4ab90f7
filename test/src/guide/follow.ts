import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Step, stepsOf } from './page.js'
import { Session } from './session.js'

const guide = new URL('../../../docs/guide/', import.meta.url)
const FIRST = 'first-driver.md'

/** What there is to do on the pages of the guide, by name: those with nothing are left out. */
export const pages: ReadonlyMap<string, readonly Step[]> = new Map(
  readdirSync(guide)
    .filter((name) => name.endsWith('.md'))
    .map((name) => [name, stepsOf(readFileSync(new URL(name, guide), 'utf8'))] as const)
    .filter(([, steps]) => steps.length > 0),
)

type Run = Extract<Step, { do: 'run' }>

const has = (step: Step, flag: string) => step.do === 'run' && step.flags.includes(flag)

/** The other pages go on in the folder of the first: with its packages and its files. */
const prepared = pages.get(FIRST)!.filter((step) => step.do === 'write' || has(step, 'install'))

/** What a page is done with: its own steps, after those that it goes on from; at last its programs are compiled. */
export function wholeOf(name: string): readonly Step[] {
  const compile: Step = { do: 'run', commands: ['npx tsc'], flags: [], prints: undefined, line: 0 }
  return [...(name === FIRST ? [] : prepared), ...pages.get(name)!, compile]
}

/**
 * Does what a page says in an empty folder. If told so with what it does in the lab too: commands for it (`sh lab`), and, after all
 * others, the commands that a guest of it runs in one go (`sh guest`).
 *
 * @throws Error at the first command that fails, or prints something else than the page says
 */
export async function follow(steps: readonly Step[], { lab = false } = {}): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-guide-'))
  const session = new Session(folder)
  const guest = steps.filter((step): step is Run => has(step, 'guest'))
  try {
    for (const step of steps) if (!has(step, 'guest') && (lab || !has(step, 'lab'))) await session.do(step)
    if (lab && guest.length > 0) for (const step of inGuest(guest)) await session.do(step)
  } finally {
    await session.close()
    rmSync(folder, { recursive: true })
  }
}

/** Commands as one program for the lab, with an edu device that no driver has yet: a guest for each would boot for each. */
function inGuest(steps: readonly Run[]): Step[] {
  // npm takes seconds to start on an emulated processor, and here it only finds the command of the folder.
  const lines = ['exec 2>&1', 'npx() { "node_modules/.bin/$@"; }']
  const marked = steps.map(({ commands, line }) => [...commands, `echo "--- line ${line}"`].join('\n'))
  const prints = steps.map(({ prints = '...\n', line }) => `${prints}--- line ${line}\n`).join('')
  const lab = 'npx uaccel lab --quiet --limit 500 --no-bind --device edu -- bash guest.sh'
  return [
    { do: 'write', file: 'guest.sh', text: `${[...lines, ...marked].join('\n')}\n`, line: 0 },
    { do: 'run', commands: [lab], flags: [], prints, line: steps[0].line },
  ]
}
