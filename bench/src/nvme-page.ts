import { line } from './markdown.js'
import type { Row } from './measure.js'
import { depths, places, readRow } from './nvme-reads.js'

/** Whether a row has its place in the section on reads. */
export const isRead = ({ name }: Row) =>
  Object.values(places).some((place) => name.startsWith(`${place}, depth `))

const head = [
  'depth',
  'k/s: TypeScript',
  'C',
  'ratio',
  'min..max',
  'ns of the host: TypeScript',
  'C',
  'p50, us: TypeScript',
  'C',
  'p99, us: TypeScript',
  'C',
  'p99.99, us: TypeScript',
  'C',
  'p99.99 / p50: TypeScript',
  'C',
  'ratio',
]

const whole = (value: number) => Math.round(value).toString()
const small = (value: number) => Number(value.toPrecision(3)).toString()

function drawPlace(place: string, rows: readonly Row[]): string {
  const lines = depths.flatMap((depth) => {
    const row = (figure: string) => rows.find(({ name }) => name === readRow(place, depth, figure))
    const pair = (figure: string) => {
      const found = row(figure)
      return found === undefined ? [] : [small(found.typescript), small(found.c)]
    }
    const reads = row('reads')
    const tail = row('latency p99.99 / p50')
    if (reads === undefined || tail === undefined) return []
    const { typescript, c, ratio, spread } = reads
    return line([
      `${depth}`,
      whole(typescript),
      whole(c),
      ratio.toFixed(2),
      `${spread.min.toFixed(2)}..${spread.max.toFixed(2)}`,
      ...['time of the host', 'latency p50', 'latency p99', 'latency p99.99', 'latency p99.99 / p50'].flatMap(
        pair,
      ),
      tail.ratio.toFixed(2),
    ])
  })
  if (lines.length === 0) return ''
  const rounds = rows.find(({ name }) => name.startsWith(place))?.rounds
  const rule = line(head.map(() => '---:'))
  return `**${place}** (rounds: ${rounds})\n\n${[line(head), rule, ...lines].join('\n')}\n`
}

/** The section of `docs/bench.md` on reads from NVMe controllers. */
export function drawReads(rows: readonly Row[]): string {
  const tables = Object.values(places)
    .map((place) => drawPlace(place, rows))
    .filter((table) => table !== '')
  if (tables.length === 0) return ''
  return `## NVMe: random reads of 4 KiB

![Reads a second over queue depth, and percentiles of the latency, of TypeScript and C](bench-nvme.svg)

One queue pair, so many reads under way, each followed by the next: by the driver (\`Nvme.start\` and its queue), and by a reader in C
that does the same work (\`bench/c/nvme-reads.h\`). Both wait for half of what is under way, up to 16 completions, before they poll, and
ring once for what a poll let them submit. The ratio is that of the reads a second: above 1 TypeScript is faster.

- **null target**: \`bench/c/nvme-target.c\` behind vfio-user. It reads the doorbells from shared memory in a busy loop, checks each command (namespace, blocks,
  memory) and moves no data. Target and reader have a core each. With some reads under way it is not what limits: what is compared
  is the readers' own time, without a device to hide it, and the way of cache lines between the cores, which is the longer the farther they are apart.
- **target of 350 ns a read**: the same, but at a device's pace. 2.9 million reads a second are the order of fast drives, and what SPDK's \`spdk_nvme_perf\`
  reached on SPDK's own vfio-user target with a null block device (24.01, depth 128).
- **in the lab**: QEMU's controller by kernel VFIO (group and type 1), in a guest. Emulation dominates: an emulated processor runs both
  readers, a doorbell leaves the guest, and QEMU copies the data. The ratio says that the driver works there as fast as C does, and nothing about hardware.
- **ns of the host**: what a poll with the submissions of its listeners and the doorbells takes, by reads: the waiting before it is not in it. What
  it takes to fetch cache lines that the other core wrote is.
- **percentiles** are, like that time, from runs of their own in which both sides read the clock before each poll and after each doorbell. A read begins
  when its doorbell was rung, and ends when that of the poll that took it was. In the runs for the reads a second nobody reads the clock.

${tables.join('\n')}`
}
