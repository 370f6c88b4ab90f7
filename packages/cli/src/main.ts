import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { commands } from './commands.js'
import { exitCodes, report } from './output.js'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

const program = new Command('uaccel')
  .description('Accelerators in user space: devices, registers, models, the lab')
  .version(version)
  .enablePositionalOptions()
  .configureHelp({ showGlobalOptions: true, subcommandTerm: (command) => command.name() })
  .addHelpText(
    'after',
    `
Exit codes:
${Object.entries(exitCodes)
  .map(([, { code, meaning }]) => `  ${code}  ${meaning}`)
  .join('\n')}
  lab ends with the exit code of its command.

Data goes to stdout, all else to stderr. NO_COLOR switches colours off.`,
  )

for (const [name, { description, load }] of Object.entries(commands)) {
  const command = new Command(name).description(description)
  // One that is not named does not run, and its modules need no time.
  if (process.argv.includes(name)) (await load())(command)
  program.addCommand(command)
}
answerForItself(program, 'uaccel')

/** A command that is misused says where its own help is, and leaves the exit code to this file. */
function answerForItself(command: Command, name: string): void {
  command.exitOverride().showHelpAfterError(`Try: ${name} --help`)
  for (const inner of command.commands) answerForItself(inner, `${name} ${inner.name()}`)
}

// Who reads only the beginning, as head does, wants no more.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

try {
  await program.parseAsync()
} catch (error) {
  // commander has said what it had to say
  process.exitCode =
    error instanceof CommanderError
      ? error.exitCode === 0
        ? exitCodes.done.code
        : exitCodes.usage.code
      : report(error)
}
