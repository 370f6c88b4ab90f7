import { createRequire } from 'node:module'
import { Command } from 'commander'
import { commands } from './commands.js'
import { exitCodes } from './output.js'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

/** The command line. Commands that are not among the words have no arguments: they do not run, and their modules need no time. */
export async function buildProgram(words: readonly string[]): Promise<Command> {
  const program = new Command('uaccel')
    .description('Accelerators in user space: devices, nodes, registers, models, the lab')
    .version(version)
    .option('-L, --list-nodes', 'short for list --nodes')
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
    if (words.includes(name)) (await load())(command)
    program.addCommand(command)
  }
  answerForItself(program, 'uaccel')
  return program
}

/** A command that is misused says where its own help is, and leaves the exit code to its caller. */
function answerForItself(command: Command, name: string): void {
  command.exitOverride().showHelpAfterError(`Try: ${name} --help`)
  for (const inner of command.commands) answerForItself(inner, `${name} ${inner.name()}`)
}
