import t from 'tap'
import { planRow } from './plan.js'
import { FaultReport } from './report.js'
import type { FaultCell, Moment } from './types.js'

const cell: FaultCell = {
  row: 'add',
  fault: 'hang',
  transport: 'loopback',
  moment: { index: 3, what: 'write of BAR0 start' },
  struck: true,
  outcome: 'none',
  findings: [],
  tookMs: 1,
}

t.test('a report for people and for programs', async (t) => {
  const bad = { ...cell, findings: [{ verdict: 'hung', message: 'it has not ended' } as const] }
  const report = new FaultReport(
    'adder',
    'model',
    ['add', 'probe'],
    [cell, bad, { ...cell, struck: false }],
    ['probe'],
  )
  t.notOk(report.ok)
  t.same(report.failures, [bad])
  const lines = String(report).split('\n')
  t.equal(lines[0], 'adder on model: 3 cells, 1 with findings; in 1 the work ended before its moment')
  t.match(lines[2], /^ +hang$/)
  t.equal(lines[3], 'add    1/3 hung')
  t.equal(lines[4], 'probe  -')
  t.match(String(report), /Not tried, since they fail without a fault: probe/)
  t.match(
    String(report),
    /add under hang, loopback, at moment 3, write of BAR0 start: ended with none\n {2}hung: it has not ended/,
  )
  t.match(JSON.parse(JSON.stringify(report)), { driver: 'adder', ok: false, cells: [{ row: 'add' }, {}, {}] })
})

t.test('moments: those that make a difference, evenly', async (t) => {
  const moments: Moment[] = [
    { kind: 'write', what: 'write of START' },
    ...Array.from({ length: 50 }, (): Moment => ({ kind: 'read', what: 'read of STATUS' })),
    { kind: 'dma', what: 'DMA read' },
    { kind: 'interrupt', what: 'interrupt' },
  ]
  const indices = (fault: FaultCell['fault'], most: number) =>
    planRow('add', moments, { faults: [fault!], moments: most }).map(({ moment }) => moment.index)
  t.same(indices('hang', Number.POSITIVE_INFINITY), [0, 1, 2, 52, 53], 'a register that is polled is one')
  t.same(indices('hang', 3), [0, 2, 53], 'the first and the last are among them')
  t.same(indices('hang', 1), [2])
  t.same(indices('lostInterrupt', 8), [53])
  t.same(indices('dmaError', 8), [52])
  t.same(indices('hang', 0), [])
  const where = (everywhere: boolean) =>
    planRow('add', moments, { faults: ['hang', 'peerKilled'], moments: 1, everywhere }).map(
      ({ fault, transport }) => `${fault} ${transport}`,
    )
  t.same(where(false), ['hang loopback', 'peerKilled vfio-user'])
  t.same(where(true), ['hang loopback', 'hang vfio-user', 'peerKilled vfio-user'])
})
