import { Argument, type Command } from 'commander'
import { shells } from '../complete/shells.js'
import { completions } from '../complete/words.js'

/** `uaccel completion`: what a shell needs to complete command lines, and what it then asks. */
export function completionCommand(command: Command): void {
  command
    .addArgument(new Argument('<shell>', 'whose').choices(Object.keys(shells)))
    .option('--line <text>', 'what stands before the cursor: prints what may come instead, as the shell asks')
    .addHelpText(
      'after',
      `
Commands, options and their values, nodes, fields, attributes and PCI addresses
are completed.

  bash:  source <(uaccel completion bash)          in ~/.bashrc
  zsh:   source <(uaccel completion zsh)           in ~/.zshrc, after compinit
  fish:  uaccel completion fish > ~/.config/fish/completions/uaccel.fish`,
    )
    .action(async (shell: keyof typeof shells, { line }: { line?: string }) => {
      if (line === undefined) return void process.stdout.write(shells[shell])
      const found = await completions(line)
      process.stdout.write(found.map(({ word, meaning }) => `${word}\t${meaning}\n`).join(''))
    })
}
