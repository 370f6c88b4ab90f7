import { CommanderError } from 'commander'
import { exitCodes, report } from './output.js'
import { buildProgram } from './program.js'

// Who reads only the beginning, as head does, wants no more.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

const given = process.argv.slice(2)
const words = ['-L', '--list-nodes'].includes(given[0] ?? '') ? ['list', '--nodes', ...given.slice(1)] : given

try {
  const program = await buildProgram(words)
  await program.parseAsync(words, { from: 'user' })
} catch (error) {
  // commander has said what it had to say
  process.exitCode =
    error instanceof CommanderError
      ? error.exitCode === 0
        ? exitCodes.done.code
        : exitCodes.usage.code
      : report(error)
}
