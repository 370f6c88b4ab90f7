import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { fieldReference, infoReference } from './reference.js'

const path = fileURLToPath(new URL('../../../../docs/cli.md', import.meta.url))

/** Between two marks of the page. */
function part(page: string, mark: string): [before: string, inner: string, after: string] {
  const begin = `<!-- ${mark} -->\n\n`
  const end = `\n<!-- end of ${mark} -->`
  const from = page.indexOf(begin) + begin.length
  const to = page.indexOf(end)
  return [page.slice(0, from), page.slice(from, to), page.slice(to)]
}

t.test('names, units and meanings in docs/cli.md are those of the command', async (t) => {
  for (const [mark, wanted] of [
    ['info', infoReference()],
    ['fields', fieldReference()],
  ] as const) {
    const [before, inner, after] = part(readFileSync(path, 'utf8'), mark)
    if (process.env.UACCEL_WRITE_DOCS) writeFileSync(path, before + wanted + after)
    else
      t.equal(inner, wanted, 'UACCEL_WRITE_DOCS=1 node packages/cli/dist/nodes/reference.test.js writes it')
  }
})

t.test('names that programs read are never lost', async (t) => {
  // Version 1 of uaccel.info: what is taken from this list breaks programs.
  const names = [...infoReference().matchAll(/^#### `(\w+)`|^\| `(\w+)` \|/gm)].map(([, section, name]) =>
    section ? `${section}:` : name,
  )
  t.same(
    names.join(' '),
    'identity: node name driver driverVersion firmware uapi uapiVersion transport address bus emulated iommu vendorId ' +
      'deviceId subsystemVendorId subsystemId classCode revision tainted ' +
      'status: state opens reason ' +
      'engines: name utilisationPercent busyNs instances heartbeat ' +
      'memory: name sizeBytes usedBytes kind mappable ' +
      'sensors: name value min max critical kind ' +
      'clocks: name rateHz maxHz ' +
      'power: drawnWatts capWatts energyJoules state ' +
      'limits: name value ' +
      'clients: id pid uid user opened busyNs memoryBytes submissions completions failures mayReset self command ' +
      'counters: submissions completions failures drops refusals opens resets events eventsLost ' +
      'errors: code count ' +
      'interrupts: vector type fired handled coalesced ' +
      'dma: mappings mappedBytes ' +
      'resets: started durationNs kind error reason ' +
      'opens: id pid uid opened closed ' +
      'time: name ticks rateHz monotonicNs realtime uncertaintyNs',
  )
})
