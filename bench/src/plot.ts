import type { Row } from './measure.js'
import { depths, places, readRow } from './nvme-reads.js'

const WIDTH = 900
const HEIGHT = 420
/** Both plots lie between these, each with so much room to the right of its left edge. */
const TOP = 90
const BOTTOM = 360
const PANEL_WIDTH = 360

/** Told apart by colour, and by the mark where colours are not seen. */
const sides = [
  { key: 'typescript', name: 'TypeScript', marker: 'circle' },
  { key: 'c', name: 'C', marker: 'square' },
] as const
type Side = (typeof sides)[number]

interface Panel {
  readonly left: number
  readonly title: string
  /** Figures of the rows, and how their lines are drawn (SVG's stroke-dasharray). */
  readonly figures: readonly { readonly figure: string; readonly name: string; readonly dashes: string }[]
  readonly label: (value: number) => string
}

const panels: readonly Panel[] = [
  {
    left: 70,
    title: 'Reads a second',
    figures: [{ figure: 'reads', name: '', dashes: 'none' }],
    label: (thousands) => (thousands >= 1000 ? `${thousands / 1000} M` : `${thousands} k`),
  },
  {
    left: 520,
    title: 'Latency',
    figures: [
      { figure: 'latency p50', name: 'p50', dashes: 'none' },
      { figure: 'latency p99', name: 'p99', dashes: '7 4' },
      { figure: 'latency p99.99', name: 'p99.99', dashes: '2 4' },
    ],
    label: (us) => (us >= 1 ? `${us} us` : `${Math.round(us * 1000)} ns`),
  },
]

/** Blue and orange, darker on a light ground than on a dark one. */
const style = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .ground { fill: #ffffff }
  .axis { stroke: #59636e }
  .grid { stroke: #d1d9e0 }
  .typescript { stroke: #0a5cc2; fill: #0a5cc2 }
  .c { stroke: #b35900; fill: #b35900 }
  .sample { stroke: #59636e }
  polyline.typescript, polyline.c { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .ground { fill: #0d1117 }
    .axis { stroke: #9198a1 }
    .grid { stroke: #30363d }
    .typescript { stroke: #58a6ff; fill: #58a6ff }
    .c { stroke: #f0a04b; fill: #f0a04b }
    .sample { stroke: #9198a1 }
  }`

type Anchor = 'start' | 'middle' | 'end'
const round = (value: number) => value.toFixed(1)
const text = (x: number, y: number, content: string, anchor: Anchor, kind = '') =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" class="${kind}">${content}</text>`
const horizontal = (left: number, y: number, kind: string) =>
  `<line x1="${left}" y1="${round(y)}" x2="${left + PANEL_WIDTH}" y2="${round(y)}" class="${kind}"/>`
const curve = (points: readonly (readonly [number, number])[], kind: string, dashes: string) =>
  `<polyline points="${points.map(([x, y]) => `${round(x)},${round(y)}`).join(' ')}" class="${kind}" stroke-dasharray="${dashes}"/>`
const mark = ({ key, marker }: Side, x: number, y: number) =>
  marker === 'circle'
    ? `<circle cx="${round(x)}" cy="${round(y)}" r="4" class="${key}"/>`
    : `<rect x="${round(x - 4)}" y="${round(y - 4)}" width="8" height="8" class="${key}"/>`

/** 1, 2, 5, 10, 20 and so on, from the last that is not above the least value to the first that is not below the greatest. */
function ticksAround(values: readonly number[]): number[] {
  const tick = (n: number) => [1, 2, 5][((n % 3) + 3) % 3]! * 10 ** Math.floor(n / 3)
  let first = 3 * Math.floor(Math.log10(Math.min(...values)))
  while (tick(first + 1) <= Math.min(...values)) first++
  const ticks = [tick(first), tick(first + 1)]
  while (ticks.at(-1)! < Math.max(...values)) ticks.push(tick(first + ticks.length))
  return ticks
}

function drawPanel({ left, title, figures, label }: Panel, rows: readonly Row[]): string {
  const curves = figures.flatMap(({ figure, dashes }) =>
    sides.map((side) => {
      const points = depths.flatMap((depth) => {
        const row = rows.find(({ name }) => name === readRow(places.null, depth, figure))
        return row === undefined ? [] : [{ depth, value: row[side.key] }]
      })
      return { side, dashes, points }
    }),
  )
  const ticks = ticksAround(curves.flatMap(({ points }) => points.map(({ value }) => value)))
  const [low, high] = [Math.log(ticks[0]!), Math.log(ticks.at(-1)!)]
  const x = (depth: number) => left + 12 + (Math.log2(depth) / Math.log2(depths.at(-1)!)) * (PANEL_WIDTH - 24)
  const y = (value: number) => BOTTOM - ((Math.log(value) - low) / (high - low)) * (BOTTOM - TOP)
  const named = figures.filter(({ name }) => name !== '')
  return [
    text(left, 30, title, 'start', 'title'),
    ...named.flatMap(({ name, dashes }, i) => [
      curve(
        [
          [left + 120 * i, 60],
          [left + 120 * i + 34, 60],
        ],
        'sample',
        dashes,
      ),
      text(left + 120 * i + 42, 64, name, 'start'),
    ]),
    ...ticks.flatMap((tick) => [
      horizontal(left, y(tick), 'grid'),
      text(left - 8, y(tick) + 4, label(tick), 'end'),
    ]),
    horizontal(left, BOTTOM, 'axis'),
    ...depths.map((depth) => text(x(depth), BOTTOM + 20, `${depth}`, 'middle')),
    text(left + PANEL_WIDTH / 2, BOTTOM + 42, 'queue depth', 'middle'),
    ...curves.flatMap(({ side, dashes, points }) => {
      const at = points.map(({ depth, value }) => [x(depth), y(value)] as const)
      return [curve(at, side.key, dashes), ...at.map(([px, py]) => mark(side, px, py))]
    }),
  ].join('\n')
}

/** `docs/bench-nvme.svg`: reads from the null target, legible on a light and on a dark ground. */
export function drawPlot(rows: readonly Row[]): string {
  const measured = rows.some(({ name }) => name === readRow(places.null, depths[0], 'reads'))
  const legend = sides.flatMap((side, i) => [
    mark(side, 74 + 120 * i, 60),
    text(86 + 120 * i, 64, side.name, 'start'),
  ])
  const body = measured
    ? [...panels.map((panel) => drawPanel(panel, rows)), ...legend]
    : [text(WIDTH / 2, HEIGHT / 2, 'Not measured', 'middle')]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="NVMe reads a second and percentiles of their latency over queue depth, of TypeScript and C">
<style>${style}
</style>
<rect width="${WIDTH}" height="${HEIGHT}" rx="6" class="ground"/>
${body.join('\n')}
</svg>
`
}
