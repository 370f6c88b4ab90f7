/** Lines for people: text of others made harmless, and measured in the columns that a terminal gives it. */

/** Columns of an output that is no terminal, and that no output of ours is meant to pass. */
export const COLUMNS = 80

/** Control characters, and those that turn the direction of writing: a terminal would obey them. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu
/** What takes two columns in a terminal: the wide scripts, and pictures (Unicode Standard Annex 11). */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60\uffe0-\uffe6]/u
/** What takes none: it goes with the character before it. */
const JOINED = /[\p{M}\p{Cf}]/u

/** Text from a device or another process, on one line, without what a terminal would take for a command. */
export const clean = (text: string): string => text.replace(CONTROLS, ' ')

const columnsOf = (character: string) => (JOINED.test(character) ? 0 : WIDE.test(character) ? 2 : 1)

/** How many columns a terminal gives to a text without control characters. */
export function width(text: string): number {
  // Mostly ASCII: a column each.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let columns = 0
  for (const character of text) columns += columnsOf(character)
  return columns
}

/** The beginning of a text, of at most so many columns. */
function beginning(text: string, columns: number): string {
  let kept = ''
  let used = 0
  for (const character of text) {
    used += columnsOf(character)
    if (used > columns) break
    kept += character
  }
  return kept
}

/** A text of at most so many columns: one that is longer ends with `~`, as in top and ps. */
export function clip(text: string, columns: number): string {
  if (width(text) <= columns) return text
  return columns > 0 ? `${beginning(text, columns - 1)}~` : ''
}

/** Fills up to so many columns, before the text or behind it. */
export function pad(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const space = ' '.repeat(Math.max(0, columns - width(text)))
  return align === 'left' ? text + space : space + text
}

/** Breaks a text at spaces into lines of at most so many columns, and a word that is longer where it must be; a character stays whole. */
export function wrap(text: string, maxColumns: number): string[] {
  const columns = Math.max(1, maxColumns)
  const lines = ['']
  for (let word of text.split(' ')) {
    const last = lines.at(-1)!
    if (last !== '' && width(last) + 1 + width(word) <= columns) {
      lines[lines.length - 1] = `${last} ${word}`
      continue
    }
    if (last !== '') lines.push('')
    while (width(word) > columns) {
      const part = beginning(word, columns) || [...word][0]!
      lines[lines.length - 1] = part
      lines.push('')
      word = word.slice(part.length)
    }
    lines[lines.length - 1] = word
  }
  return lines
}

/** A column of {@link grid}. */
export interface GridColumn {
  readonly head: string
  readonly align?: 'left' | 'right'
  /** One whose text may be cut where the line is too long. */
  readonly flexible?: boolean
  /** Colours a cell, which has its width by then. */
  readonly paint?: (cell: string, row: number) => string
}

const GAP = '  '

/**
 * Rows under their heads, without lines between, in at most so many columns. Where it is too wide, the flexible columns are cut,
 * the widest first; where that is not enough, the line is.
 */
export function grid(
  columns: readonly GridColumn[],
  rows: readonly (readonly string[])[],
  maxColumns: number,
): string[] {
  const widths = columns.map(({ head }, i) => Math.max(width(head), ...rows.map((row) => width(row[i]!))))
  const total = () => widths.reduce((sum, each) => sum + each, GAP.length * (columns.length - 1))
  while (total() > maxColumns) {
    const room = columns.map(({ flexible, head }, i) => (flexible ? widths[i]! - width(head) : 0))
    const widest = Math.max(...room)
    if (widest <= 0) break
    const i = room.indexOf(widest)
    widths[i] = widths[i]! - Math.min(widest, total() - maxColumns, Math.max(1, Math.ceil(widest / 2)))
  }
  // What does not fit at all is left out at the right.
  const line = (cells: readonly string[], row: number) => {
    let room = maxColumns
    const parts: string[] = []
    for (const [i, column] of columns.entries()) {
      if (i > 0) room -= GAP.length
      if (room <= 0) break
      const size = Math.min(widths[i]!, room)
      const cell = pad(clip(cells[i]!, size), size, column.align)
      const bare = i === columns.length - 1 ? cell.trimEnd() : cell
      parts.push(row < 0 || !column.paint ? bare : column.paint(bare, row))
      room -= size
    }
    return parts.join(GAP).trimEnd()
  }
  return [
    line(
      columns.map(({ head }) => head),
      -1,
    ),
    ...rows.map(line),
  ]
}
