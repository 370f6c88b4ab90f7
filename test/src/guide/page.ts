/** A fenced code block of a Markdown page. */
export interface Block {
  readonly language: string
  /** Words after the language, such as `lab`. */
  readonly flags: readonly string[]
  /** The file that it is, from the brackets behind the language. */
  readonly file: string | undefined
  readonly text: string
  /** Of its fence, from 1. */
  readonly line: number
}

/** What a reader does with a page, in order. */
export type Step =
  | { readonly do: 'write'; readonly file: string; readonly text: string; readonly line: number }
  | {
      readonly do: 'run'
      readonly commands: readonly string[]
      readonly flags: readonly string[]
      /** What is printed, with `...` for what may be anything. Absent where the page does not say. */
      readonly prints: string | undefined
      readonly line: number
    }

/** The fenced blocks of a page. A fence may be indented, as in a list. */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = []
  for (const match of markdown.matchAll(/^( *)```(\S+)([^\n]*)\n([\s\S]*?)^ *```$/gm)) {
    const [, indent, language, info, body] = match as unknown as [string, string, string, string, string]
    const file = /\[([^\]]+)\]/.exec(info)?.[1]
    blocks.push({
      language,
      flags: info
        .replace(/\[[^\]]*\]/, '')
        .split(' ')
        .filter(Boolean),
      file,
      text: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      line: markdown.slice(0, match.index).split('\n').length,
    })
  }
  return blocks
}

/**
 * What the reader of a page does: writes each block that has a file name, types each `sh` block, and sees the `text` block after it.
 *
 * @throws Error for a program that has no file name, so that none escapes the compiler
 */
export function stepsOf(markdown: string): Step[] {
  const blocks = blocksOf(markdown)
  return blocks.flatMap((block, i): Step[] => {
    const { language, flags, file, text, line } = block
    if (file !== undefined) return [{ do: 'write', file, text, line }]
    if (language === 'ts') throw new Error(`line ${line}: a program without the name of its file`)
    if (language !== 'sh') return []
    const after = blocks[i + 1]
    const prints = after?.language === 'text' ? after.text : undefined
    const commands = text.trimEnd().split(/(?<!\\)\n/)
    return [{ do: 'run', commands, flags, prints, line }]
  })
}

/** What matches output that a page says: a line `...` stands for any lines, `...` within a line for the rest of a word or line. */
export function pattern(prints: string): RegExp {
  const lines = prints
    .trimEnd()
    .split('\n')
    .map((line) =>
      line === '...'
        ? '(?:[^\\n]*\\n)*?'
        : `${line
            .trimEnd()
            .split('...')
            .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
            .join('[^\\n]*')}[ ]*\\n`,
    )
  return new RegExp(`^${lines.join('')}$`)
}
