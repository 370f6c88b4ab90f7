import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

t.setTimeout(120_000)

const program = fileURLToPath(new URL('./accessors.test.program.js', import.meta.url))
const flags = ['--trace-opt', '--trace-deopt', '--allow-natives-syntax']

t.test(
  'to take a mapping back, or follow it, throws away the code for its own registers, and no other',
  async (t) => {
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, program], {
      maxBuffer: 256 << 20,
    })
    const lines = stdout.split('\n')
    const between = (from: string, to: string) => {
      const [start, end] = [from, to].map((text) => lines.findIndex((line) => line.includes(text)))
      if (start < 0 || end < start) throw new Error(`the trace has no marks '${from}' and '${to}'`)
      return lines.slice(start, end).filter((line) => line.includes('pollRegisters'))
    }
    const thrownAway = (line: string) => /^\[(bailout|marking dependent code)/.test(line)
    const compiled = (line: string) => line.startsWith('[completed optimizing')

    t.ok(
      lines.some((line) => compiled(line) && line.includes('pollRegisters')),
      'V8 says what it compiles',
    )
    t.same(between('others are taken back', 'another is followed').filter(thrownAway), [])
    t.same(between('another is followed', 'this one is followed').filter(thrownAway), [])
    t.ok(
      between('this one is followed', 'and is not any more').some(thrownAway),
      'to follow it takes its own',
    )
    t.ok(between('and is not any more', 'this one is taken back').some(compiled), 'which is compiled anew')
    t.ok(between('this one is taken back', 'and is there again').some(thrownAway), 'a reset takes its own')
    const after = between('and is there again', 'the end')
    t.ok(after.some(compiled), 'and it is compiled anew')
    t.ok(after.findLastIndex(thrownAway) < after.findLastIndex(compiled), 'for good')
  },
)
