import fc from 'fast-check'
import t from 'tap'
import { offsetInPage, PageMap, type PageRange, pageOf } from './page-map.js'

t.test('an address is its page and the rest, exact for all 64 bits', async () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (iova) => {
      return BigInt(pageOf(iova)) * 4096n + BigInt(offsetInPage(iova)) === iova
    }),
  )
})

t.test('equals a list that is searched from end to end', async () => {
  const range = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 8 }))
  const step = fc.oneof(
    fc.record({ op: fc.constant('add' as const), range }),
    fc.record({ op: fc.constantFrom('delete' as const, 'find' as const), range }),
    fc.record({ op: fc.constantFrom('meeting' as const, 'around' as const), range }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.constantFrom(0, 2 ** 52 - 100), (steps, base) => {
      const map = new PageMap<PageRange>()
      let list: PageRange[] = []
      for (const { op, range } of steps) {
        const firstPage = base + range[0]
        const wanted = { firstPage, endPage: firstPage + range[1] }
        const met = list.filter((r) => r.firstPage < wanted.endPage && r.endPage > wanted.firstPage)
        const found = list.find((r) => r.firstPage <= firstPage && firstPage < r.endPage)
        if (map.find(firstPage) !== found) return false
        if (op === 'meeting') {
          const answer = map.meeting(wanted)
          if (answer.length !== met.length || answer.some((r, i) => r !== met[i])) return false
        } else if (op === 'around') {
          const below = list.findLast((r) => r.firstPage <= firstPage)
          const above = list.find((r) => r.firstPage > firstPage)
          const answer = map.around(firstPage)
          if (answer[0] !== below || answer[1] !== above) return false
        } else if (op === 'add' && met.length === 0) {
          map.add(wanted)
          list = [...list, wanted].sort((a, b) => a.firstPage - b.firstPage)
        } else if (op === 'delete' && found !== undefined) {
          map.delete(found)
          list = list.filter((r) => r !== found)
        }
        if (map.size !== list.length) return false
      }
      const all = map.clear()
      return all.length === list.length && map.size === 0 && map.find(base) === undefined
    }),
    { numRuns: 500 },
  )
})
