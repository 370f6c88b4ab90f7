// Runs in the lab. Arguments: BASELINE (the program) EFFORT (full or quick). Its output is one line, the rows as JSON.
import { parseDevices } from '@uaccel/lab'
import { Child } from './child.js'
import { measureContest } from './measure.js'
import { labEfforts } from './nvme-lab.js'
import { places, readContest, readerArguments, readerScript, targetDepths } from './nvme-reads.js'

/** Of depth 1; a deeper one has up to eight times as many. */
const READS = 2000

const [baseline, effort] = process.argv.slice(2) as [string, keyof typeof labEfforts]
const { bdf } = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'nvme')!
const args = [bdf, ...readerArguments(targetDepths)]
const ours = new Child(process.execPath, [readerScript, 'vfio', ...args])
const theirs = new Child(baseline, args)
try {
  const typescript = (reads: number) => ours.run(reads)
  const c = (reads: number) => theirs.run(reads)
  const contest = readContest(places.lab, targetDepths, READS, typescript, c)
  console.log(JSON.stringify(await measureContest(contest, labEfforts[effort])))
} finally {
  await ours.close()
  await theirs.close()
}
