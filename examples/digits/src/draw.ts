import type { Digits } from './idx.js'

/** MNIST centres its digits in 28x28 pixels and leaves the border empty: this much of it is not drawn. */
const border = 3

/** A digit and what is written below it. */
export interface Picture {
  readonly index: number
  readonly caption: string
}

/** Two pixels, one above the other, as one character. Bright is ink. */
function character(top: number, bottom: number, colour: boolean): string {
  if (colour) {
    // xterm's 24 greys, 232 (nearly black) to 255 (nearly white): foreground is the upper half, background the lower.
    const grey = (value: number) => 232 + Math.round((value * 23) / 255)
    return `\x1b[38;5;${grey(top)}m\x1b[48;5;${grey(bottom)}m▀`
  }
  const [upper, lower] = [top >= 96, bottom >= 96]
  if (upper) return lower ? '█' : '▀'
  return lower ? '▄' : ' '
}

/** Draws digits side by side, in greys where `colour` is set; as many as fit into `width` characters. */
export function drawDigits(
  { rows, columns, pixels }: Digits,
  pictures: readonly Picture[],
  { width, colour }: { width: number; colour: boolean },
): string {
  const across = columns - 2 * border
  const fitting = pictures.slice(0, Math.max(1, Math.floor((width + 2) / (across + 2))))
  const lines: string[] = []
  for (let y = border; y < rows - border; y += 2) {
    const parts = fitting.map(({ index }) => {
      const at = (x: number, row: number) => pixels[(index * rows + row) * columns + x]
      let line = ''
      for (let x = border; x < columns - border; x++) line += character(at(x, y), at(x, y + 1), colour)
      return colour ? `${line}\x1b[0m` : line
    })
    lines.push(parts.join('  ').trimEnd())
  }
  lines.push(
    fitting
      .map(({ caption }) => caption.slice(0, across).padEnd(across))
      .join('  ')
      .trimEnd(),
  )
  return lines.join('\n')
}
