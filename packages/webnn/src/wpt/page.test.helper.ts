import { type Count, type Counts, devices } from './count.test.helper.js'

const HEAD = `# WebNN conformance

What passes of the [web-platform-tests](https://github.com/web-platform-tests/wpt/tree/master/webnn) that need no \`float16\`, within the suite's own tolerances: on the CPU, and on an NPU whose model has a process of its own, over vfio-user. A case counts for the NPU where the operator after which its file is named ran there; a view costs nothing at all, such as a reshape.

Made by \`UACCEL_WPT=folder npm run wpt\`, where the folder is a checkout of web-platform-tests or has the cases as JSON; not to be edited by hand.
`

const row = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`
const percent = (part: number, all: number) => (all === 0 ? '' : `${((100 * part) / all).toFixed(1)} %`)
const sum = (counts: readonly Count[], of: (count: Count) => number) =>
  counts.reduce((all, count) => all + of(count), 0)

/** The page of these counts. */
export function pageOf({ digest, parts }: Counts): string {
  const sections = Array.from(parts, ([part, files]) => {
    const lines = [
      row(['file', 'tests', ...devices, 'on the NPU', 'view', 'on the CPU']),
      row(['---', ...new Array<string>(devices.length + 4).fill('---:')]),
    ]
    const cells = (of: (count: (count: Count) => number, device: number) => number) => {
      const last = devices.length - 1
      return [
        of(({ tests }) => tests, 0),
        ...devices.map((_, device) => of(({ passed }) => passed, device)),
        of(({ at }) => at.device, last),
        of(({ at }) => at.free, last),
        of(({ at }) => at.cpu, last),
      ]
    }
    for (const [file, counts] of files) lines.push(row([file, ...cells((of, device) => of(counts[device]!))]))
    const all = cells((of, device) =>
      sum(
        Array.from(files.values(), (counts) => counts[device]!),
        of,
      ),
    )
    lines.push(row(['**all**', ...all]))
    lines.push(
      row([
        '',
        '',
        ...all.slice(1, 1 + devices.length).map((passed) => percent(passed, all[0]!)),
        percent(all.at(-3)!, all[devices.length]!),
        '',
        '',
      ]),
    )
    return `## ${part}\n\n${lines.join('\n')}\n`
  })
  return `${HEAD}\n<!-- cases: ${digest} -->\n\n${sections.join('\n')}`
}

/** Which cases a page is of. */
export const digestOfPage = (page: string): string | undefined => /<!-- cases: (\w+) -->/.exec(page)?.[1]
