import type { Row } from './measure.js'
import { depths, places, readRow, targetDepths } from './nvme-reads.js'

const WIDTH = 900
const HEIGHT = 400
/** Plot areas: left edge, width; both from TOP to BOTTOM. */
const TOP = 70
const BOTTOM = 340
const panels = { reads: { left: 70, width: 360 }, latency: { left: 520, width: 350 } } as const

const sides = [
  { key: 'typescript', name: 'TypeScript', marker: 'circle' },
  { key: 'c', name: 'C', marker: 'square' },
] as const
type Side = (typeof sides)[number]
const percentiles = ['p50', 'p99', 'p99.99'] as const

/** Colours that are told apart on both grounds, and by those who see few: blue and orange, circle and square. */
const style = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .ground { fill: #ffffff } .axis { stroke: #59636e } .grid { stroke: #d1d9e0 }
  .typescript { stroke: #0a5cc2; fill: #0a5cc2 } .c { stroke: #b35900; fill: #b35900 }
  polyline { fill: none !important; stroke-width: 2 } line { stroke-width: 1 } .range { stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .ground { fill: #0d1117 } .axis { stroke: #9198a1 } .grid { stroke: #30363d }
    .typescript { stroke: #58a6ff; fill: #58a6ff } .c { stroke: #f0a04b; fill: #f0a04b }
  }`

const text = (x: number, y: number, content: string, anchor = 'middle', extra = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"${extra}>${content}</text>`
const stroke = (x1: number, y1: number, x2: number, y2: number, kind: string) =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" class="${kind}"/>`

function mark({ key, marker }: Side, x: number, y: number): string {
  return marker === 'circle'
    ? `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="4" class="${key}"/>`
    : `<rect x="${(x - 4).toFixed(1)}" y="${(y - 4).toFixed(1)}" width="8" height="8" class="${key}"/>`
}

/** A logarithmic axis over whole powers of ten around the values: where a value is, and a grid with its labels. */
function logarithmic(
  values: readonly number[],
  left: number,
  width: number,
  label: (value: number) => string,
) {
  const first = Math.floor(Math.log10(Math.min(...values)))
  const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...values))))
  const y = (value: number) => BOTTOM - ((Math.log10(value) - first) / (last - first)) * (BOTTOM - TOP)
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i))
  const grid = powers.map((power) => {
    const at = y(power)
    return stroke(left, at, left + width, at, 'grid') + text(left - 8, at + 4, label(power), 'end')
  })
  return { y, grid: grid.join('\n') }
}

/** The medians of a figure over the depths that were measured. */
function series(rows: readonly Row[], wanted: readonly number[], figure: string, side: Side) {
  return wanted.flatMap((depth) => {
    const row = rows.find(({ name }) => name === readRow(places.null, depth, figure))
    return row === undefined ? [] : [{ depth, value: row[side.key] }]
  })
}

function drawCurves(rows: readonly Row[]): string {
  const { left, width } = panels.reads
  const curves = sides.map((side) => ({ side, points: series(rows, depths, 'reads', side) }))
  const { y, grid } = logarithmic(
    curves.flatMap(({ points }) => points.map(({ value }) => value)),
    ...([left, width] as const),
    (thousands) => (thousands >= 1000 ? `${thousands / 1000} M` : `${thousands} k`),
  )
  const steps = Math.log2(depths.at(-1)!)
  const x = (depth: number) => left + 12 + (Math.log2(depth) / steps) * (width - 24)
  const drawn = curves.map(({ side, points }) => {
    const at = points.map(({ depth, value }) => [x(depth), y(value)] as const)
    const path = at.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ')
    return `<polyline points="${path}" class="${side.key}"/>\n${at.map(([px, py]) => mark(side, px, py)).join('\n')}`
  })
  return [
    text(left, 30, 'Reads a second', 'start', ' class="title"'),
    grid,
    stroke(left, BOTTOM, left + width, BOTTOM, 'axis'),
    ...depths.map((depth) => text(x(depth), BOTTOM + 20, `${depth}`)),
    text(left + width / 2, BOTTOM + 42, 'queue depth'),
    ...drawn,
  ].join('\n')
}

function drawRanges(rows: readonly Row[]): string {
  const { left, width } = panels.latency
  const groups = sides.map((side) => ({
    side,
    values: percentiles.map((name) => series(rows, targetDepths, `latency ${name}`, side)),
  }))
  const { y, grid } = logarithmic(
    groups.flatMap(({ values }) => values.flat().map(({ value }) => value)),
    ...([left, width] as const),
    (us) => `${us} us`,
  )
  const room = width / targetDepths.length
  const middle = (i: number) => left + room * (i + 0.5)
  const drawn = groups.flatMap(({ side, values }, which) =>
    targetDepths.flatMap((depth, i) => {
      const found = values.flatMap((points) => points.filter((point) => point.depth === depth))
      if (found.length === 0) return []
      const px = middle(i) + (which === 0 ? -12 : 12)
      const ys = found.map(({ value }) => y(value))
      return [
        stroke(px, Math.min(...ys), px, Math.max(...ys), `range ${side.key}`),
        ...ys.map((py) => mark(side, px, py)),
        ...ys.map((py, at) =>
          text(px + (which === 0 ? -9 : 9), py + 4, percentiles[at]!, which === 0 ? 'end' : 'start'),
        ),
      ]
    }),
  )
  return [
    text(left, 30, 'Latency: p50, p99, p99.99', 'start', ' class="title"'),
    grid,
    stroke(left, BOTTOM, left + width, BOTTOM, 'axis'),
    ...targetDepths.map((depth, i) => text(middle(i), BOTTOM + 20, `${depth}`)),
    text(left + width / 2, BOTTOM + 42, 'queue depth'),
    ...drawn,
  ].join('\n')
}

/** `docs/bench-nvme.svg`: reads from the null target, legible on a light and on a dark ground. Empty where they were not measured. */
export function drawPlot(rows: readonly Row[]): string {
  const measured = series(rows, targetDepths, 'reads', sides[0]).length === targetDepths.length
  const legend = sides.map(
    (side, i) => mark(side, 640 + 110 * i, 50) + text(652 + 110 * i, 54, side.name, 'start'),
  )
  const body = measured
    ? [drawCurves(rows), drawRanges(rows), ...legend].join('\n')
    : text(WIDTH / 2, HEIGHT / 2, 'Not measured')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="NVMe reads a second over queue depth, and percentiles of their latency, of TypeScript and C">
<style>${style}
</style>
<rect width="${WIDTH}" height="${HEIGHT}" rx="6" class="ground"/>
${body}
</svg>
`
}
