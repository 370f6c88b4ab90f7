import { listPciDevices } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import type { Command, Option } from 'commander'
import { known } from '../drivers.js'
import { listAttributes } from '../nodes/ask.js'
import { fieldHelp } from '../nodes/fields.js'
import { type FolderFlag, findNodes, withNode } from '../nodes/find.js'
import { buildProgram } from '../program.js'
import { clean } from '../text.js'

/** What may stand in place of the last word of a line. */
export interface Candidate {
  readonly word: string
  readonly meaning: string
}

/** What is known of the line when a word is completed. */
interface Line {
  readonly last: string
  /** Arguments of the command before it. */
  readonly given: readonly string[]
  readonly folder: FolderFlag
}

/** What no shell takes for more than a word: bash puts it on the command line as it is, and a node may name its attributes at will. */
const WORD = /^[\w./:,=@%+-]+$/

/** A shell waits with its prompt: no longer than this for a node. */
const ASK_MS = 1000

const plain = (words: Iterable<string>): Candidate[] => [...words].map((word) => ({ word, meaning: '' }))
const nodes = ({ folder }: Line) => plain(findNodes(folder).map(({ target }) => target))
const addresses = () =>
  listPciDevices().map(({ bdf, className }) => ({ word: bdf, meaning: className ?? '' }))

/** Values that are not choices of commander's, by the name of the argument or option. Others are files, which shells know. */
const values: Readonly<Record<string, (line: Line) => Candidate[] | Promise<Candidate[]>>> = {
  node: nodes,
  nodes,
  address: addresses,
  device: (line) => [...nodes(line), ...addresses()],
  name: () => plain(Object.keys(known)),
  model: () => plain(Object.keys(known)),
  fields({ last }) {
    const before = last.slice(0, last.lastIndexOf(',') + 1)
    return fieldHelp.map(({ name, meaning }) => ({ word: before + name, meaning }))
  },
  async attributes({ given: [node], folder }) {
    if (node === undefined) return []
    const all = await withNode(node, folder, (client) => listAttributes(client, '', { timeoutMs: ASK_MS }))
    return all.map(({ path, mode, unit }) => ({
      // One that can only be set wants a value.
      word: (mode & 0o444) === 0 ? `${path}=` : path,
      meaning: unit,
    }))
  },
}

/** What may stand in place of the last word of a command line, up to the cursor; nothing where only files would do. */
export async function completions(line: string): Promise<Candidate[]> {
  const words = line.split(/\s+/).slice(1)
  const last = words.pop() ?? ''
  const found = await candidates(words, last).catch((error) => {
    // A node that is not there has nothing to complete, and a prompt no place for messages.
    if (!isAccelError(error)) throw error
    return []
  })
  return found
    .filter(({ word }) => word.startsWith(last) && WORD.test(word))
    .map(({ word, meaning }) => ({ word, meaning: clean(meaning) }))
}

async function candidates(words: readonly string[], last: string): Promise<Candidate[]> {
  let command = await buildProgram(words)
  const given: string[] = []
  const folder: FolderFlag = {}
  let pending: Option | undefined
  for (const word of words) {
    if (pending) {
      if (pending.attributeName() === 'folder') folder.folder = word
      pending = undefined
    } else if (word.startsWith('-')) {
      const option = optionsOf(command).find(({ short, long }) => word === short || word === long)
      pending = option && (option.required || option.optional) ? option : undefined
    } else {
      const inner = given.length === 0 ? command.commands.find((each) => each.name() === word) : undefined
      if (inner) command = inner
      else given.push(word)
    }
  }
  const at: Line = { last, given, folder }
  if (pending) return valuesOf(pending.attributeName(), pending.argChoices, at)
  if (last.startsWith('-')) {
    return optionsOf(command).flatMap(({ long, short, description }) => {
      const word = long ?? short
      return word === undefined ? [] : [{ word, meaning: description }]
    })
  }
  const inner = command.commands.map((each) => ({ word: each.name(), meaning: each.description() }))
  if (inner.length > 0 && given.length === 0) return inner
  const { registeredArguments: declared } = command
  const argument = declared[given.length] ?? declared.findLast(({ variadic }) => variadic)
  return argument ? valuesOf(argument.name(), argument.argChoices, at) : []
}

function valuesOf(
  name: string,
  choices: readonly string[] | undefined,
  line: Line,
): Candidate[] | Promise<Candidate[]> {
  if (choices) return plain(choices)
  return Object.hasOwn(values, name) ? values[name]!(line) : []
}

/** Those of commander's tree, with `--help`, which is no option of its own. */
const optionsOf = (command: Command) => command.createHelp().visibleOptions(command)
