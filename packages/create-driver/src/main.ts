import { relative } from 'node:path'
import { Command, CommanderError } from 'commander'
import { CreateError } from './errors.js'
import { createDriver } from './index.js'
import { namesOf, parseId } from './names.js'
import { type Answers, ask, defaults } from './questions.js'

interface Flags {
  vendor?: string
  device?: string
  dir?: string
  yes?: boolean
  packages?: string
}

/** As of the `uaccel` command. */
const FAILED = 1
const USAGE = 2

const program = new Command('npm create @uaccel/driver')
  .description('Makes a package of your own: a driver for uaccel, a model of its device, and tests on both')
  .argument('[name]', `name of the package, such as ${defaults.name} or @me/${defaults.name}`)
  .option('--vendor <id>', `PCI vendor id of the device, hexadecimal (default: ${defaults.vendor})`)
  .option('--device <id>', `PCI device id (default: ${defaults.device})`)
  .option('--dir <folder>', 'where to make it (default: a folder of that name in this one)')
  .option('-y, --yes', 'ask nothing: take the defaults for what is not given')
  .option('--packages <folder>', "depend on tarballs of uaccel's packages in this folder, made by npm pack")
  .exitOverride()
  .showHelpAfterError('Try: npm create @uaccel/driver -- --help')
  .addHelpText(
    'after',
    `
It asks for what is not given, on a terminal. Nothing is overwritten: the folder
must not exist, or be empty but for .git.

Examples:
  npm create @uaccel/driver my-npu
  npm create @uaccel/driver @me/my-npu -- --vendor 10ee --device 9038 --yes`,
  )

async function run(name: string | undefined, { vendor, device, dir, yes, packages }: Flags): Promise<void> {
  const given: Answers = { name, vendor, device }
  check(given)
  const complete = [name, vendor, device].every((answer) => answer !== undefined)
  const asks = !yes && !complete && process.stdin.isTTY && process.stdout.isTTY
  if (!asks && name === undefined)
    program.error('error: a name is wanted, such as: npm create @uaccel/driver my-npu', { exitCode: USAGE })
  const answers = asks ? await ask(given) : { ...defaults, ...defined(given) }
  if (answers === undefined) {
    process.exitCode = FAILED
    return
  }
  const { folder, files } = createDriver({
    name: answers.name!,
    vendor: parseId(answers.vendor!, 'vendor'),
    device: parseId(answers.device!, 'device'),
    ...(dir === undefined ? {} : { folder: dir }),
    ...(packages === undefined ? {} : { packages }),
  })
  const shown = relative(process.cwd(), folder) || '.'
  process.stdout.write(`
${files.length} files in ${shown}: a driver, its uAPI, a model of the device, and tests on both.

${shown === '.' ? '' : `  cd ${shown}\n`}  npm install
  npm test        # the driver's contract, on loopback and over vfio-user
  npm run lab     # the same on real kernel VFIO, in an emulated PC: no root, no hardware

README.md says where to go from there.
`)
}

/** What was said is wrong, or right, before anything is asked. */
function check({ name, vendor, device }: Answers): void {
  if (name !== undefined) namesOf(name)
  if (vendor !== undefined) parseId(vendor, 'vendor')
  if (device !== undefined) parseId(device, 'device')
}

const defined = (given: Answers): Answers =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))

try {
  await program.action(run).parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE // it has said what it had to say
  } else if (error instanceof CreateError) {
    process.stderr.write(`create-driver: ${error.message} (${error.code})\n`)
    process.exitCode = FAILED
  } else throw error
}
