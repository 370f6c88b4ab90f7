import t from 'tap'
import type { Row } from './measure.js'
import { drawReads, isRead } from './nvme-page.js'
import { places, readRow } from './nvme-reads.js'
import { drawPlot } from './plot.js'
import { drawPage, drawTable } from './report.js'
import { targets, verdict } from './targets.js'

const machine = { cpu: '2 x', node: '20', kernel: '6', cc: 'cc' }
const row = (name: string, typescript: number, c: number): Row => ({
  name,
  unit: 'x',
  typescript,
  c,
  ratio: typescript / c,
  spread: { min: typescript / c, max: typescript / c },
  rounds: 9,
})
/** What is measured of a place at one depth: so many reads a second, and tails. */
const measured = (place: string, depth: number, reads: number, tail: number) => [
  row(readRow(place, depth, 'reads'), reads * 1000, 1000),
  row(readRow(place, depth, 'time of the host'), 20, 10),
  row(readRow(place, depth, 'latency p50'), 2, 1),
  row(readRow(place, depth, 'latency p99'), 3, 2),
  row(readRow(place, depth, 'latency p99.99'), 400, 30),
  row(readRow(place, depth, 'latency p99.99 / p50'), tail * 30, 30),
]
const rows = [
  row('register read', 2.1, 1),
  row('register read, bare array', 2, 1),
  row('NVMe: poll a completion', 13, 10),
  ...measured(places.null, 1, 0.99, 2),
  ...measured(places.null, 32, 1, 2.01),
  ...measured(places.lab, 128, 0.8, 1),
]
const end = (what: string) => {
  const target = targets.find((each) => each.what === what)
  if (target === undefined) throw new Error(`no target ${what}`)
  return verdict(target, rows).end
}

t.test('a target is met, or missed and why, or not measured', async (t) => {
  t.match(end('NVMe, null target, depth 1: reads a second'), /^missed\. .{40}/)
  t.equal(end('NVMe, null target, depth 32: reads a second'), 'met')
  t.equal(end('NVMe, null target, depth 128: reads a second'), 'not measured')
  t.equal(end('NVMe, null target, depth 1: p99.99 / p50'), 'met')
  t.match(end('NVMe, null target, depth 32: p99.99 / p50'), /^missed\. /)
  t.equal(end("NVMe, QEMU's in the lab, depth 128: reads a second"), 'met')
  t.match(end('NVMe: poll a completion'), /^missed\. /)
  t.equal(end('register read: accessor / typed array'), 'met', 'of two rows of TypeScript')
  for (const { what, why } of targets) t.match(why, /^[A-Z].{40,}\.$/s, `${what} has a reason`)
})

t.test('the page has the reads in a section of their own, and every target', async (t) => {
  const page = drawPage(machine, rows, ['the rest, which is not there.'])
  t.match(page, '| register read | 2.1 | 1 | x | 2.10 | 2.10..2.10 |')
  t.notMatch(page, `| ${readRow(places.null, 1, 'reads')} |`, 'no line for each figure')
  t.match(
    page,
    '| 1 | 990 | 1000 | 0.99 | 0.99..0.99 | 20 | 10 | 2 | 1 | 3 | 2 | 400 | 30 | 60 | 30 | 2.00 |',
  )
  t.match(page, `**${places.lab}** (rounds: 9)`)
  t.notMatch(page, `**${places.paced}**`)
  t.match(page, '\nLeft out: the rest, which is not there.\n')
  t.notMatch(page, 'A quick run')
  const quick = rows.map((each) => ({ ...each, rounds: 3 }))
  t.match(
    drawPage(machine, quick, []),
    '**A quick run: it shows the form of this page, and its figures mean nothing.**',
  )
  for (const { what } of targets) t.match(page, `| ${what} |`)
  t.equal(drawReads(rows.filter((each) => !isRead(each))), '')
  t.match(drawTable(machine, rows, ['the rest.']), /\nLeft out: the rest\.\n$/)
})

t.test('the plot: well-formed, a curve for each side and figure', async (t) => {
  const svg = drawPlot(rows)
  const open: string[] = []
  for (const [, close, name, alone] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (close !== '') t.equal(open.pop(), name)
    else if (alone === '') open.push(name!)
  }
  t.strictSame(open, [], 'every element ends')
  for (const side of ['typescript', 'c']) {
    const curves = svg.match(new RegExp(`<polyline points="[\\d., ]+" class="${side}"`, 'g'))
    t.equal(curves?.length, 4, 'reads, and three percentiles')
  }
  t.notMatch(svg, /NaN|Infinity|undefined/)
  // 990 and 1,000 thousand, at the left edge
  const y = (mark: RegExp) => Number(mark.exec(svg)![1])
  t.ok(
    y(/<circle cx="82.0" cy="([\d.]+)"/) > y(/<rect x="78.0" y="([\d.]+)"/) + 4,
    'what is less is lower on the page',
  )
  t.match(drawPlot([]), 'Not measured')
})
