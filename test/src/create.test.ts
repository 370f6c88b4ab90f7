import { existsSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createPackage, type Packed, packAll, requireEnd, runIn } from './packed.js'

t.setTimeout(600_000)

/** What `npm create`, `npm install` and `npm test` may take together on a machine that does nothing else, in seconds. */
const PROMISED_S = 120

interface Manifest {
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly bin?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
}

const packed = await packAll(t)

/** The same files, in this checkout. */
const sources = ({ name }: Packed) =>
  fileURLToPath(new URL(`../../packages/${name.slice('@uaccel/'.length)}/`, import.meta.url))

/** What a compiled module or a declaration imports, and the programs and files that it names beside itself. */
function imported(text: string): string[] {
  const modules =
    /^(?:import|export|\}).*?\bfrom ['"]([^'"]+)['"]|^import ['"]([^'"]+)['"]|\bimport\(['"]([^'"]+)['"]\)/gm
  const besides = /new URL\(['"](\.[^'"]*[^'"/])['"], import\.meta\.url\)/g
  return [modules, besides].flatMap((form) =>
    [...text.matchAll(form)].map((found) => found.slice(1).find((name) => name !== undefined)!),
  )
}

t.test('each package has what it needs, and nothing of its tests', async (t) => {
  const versions = new Map(packed.packages.map(({ name, version }) => [name, version]))
  for (const each of packed.packages) {
    const { name, files } = each
    const folder = sources(each)
    const {
      exports,
      bin = {},
      ...manifest
    } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
    const declared = { ...manifest.dependencies, ...manifest.peerDependencies }
    const own = files.filter((path) => !path.startsWith('template/'))
    t.ok(files.includes('README.md'), `${name} has a README`)
    t.same(
      own.filter((path) => /\.test\.|\.tsbuildinfo$/.test(path)),
      [],
      `${name}: no test, no state of the compiler`,
    )
    const named = [
      ...Object.values(exports).flatMap((entry) =>
        typeof entry === 'string' ? [entry] : Object.values(entry),
      ),
      ...Object.values(bin),
    ]
    t.same(
      named.filter((path) => !files.includes(posix.normalize(path))),
      [],
      `${name}: what its package.json names is there`,
    )
    for (const [dependency, range] of Object.entries(declared))
      if (dependency.startsWith('@uaccel/'))
        t.equal(versions.get(dependency), range, `${name}: ${dependency} is packed, too`)
    const missing = own
      .filter((path) => /\.(m?js|d\.ts)$/.test(path))
      .flatMap((path) =>
        imported(readFileSync(join(folder, path), 'utf8'))
          .filter((module) =>
            module.startsWith('.')
              ? !files.includes(posix.join(dirname(path), module))
              : !isDeclared(module, { ...declared, [name]: '' }),
          )
          .map((module) => `${path}: ${module}`),
      )
    t.same(missing, [], `${name}: what its programs import is there, or declared`)
  }
})

function isDeclared(module: string, declared: Readonly<Record<string, string>>): boolean {
  if (module.startsWith('node:') || builtinModules.includes(module)) return true
  const parts = module.split('/')
  return Object.hasOwn(declared, module.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]!)
}

t.test(
  'a package of an author, from the tarballs, in an empty folder, with Node and npm alone',
  async (t) => {
    const start = performance.now()
    const folder = await createPackage(t, packed)
    const tested = await runIn(folder, ['npm', 'test'])
    requireEnd(t, 'npm test', tested)
    const seconds = (performance.now() - start) / 1000
    t.comment(`together ${seconds.toFixed(1)} s, of ${PROMISED_S} s that are promised`)
    for (const way of ['my-npu on loopback', 'my-npu over vfio-user'])
      t.match(tested.stdout, new RegExp(`^ +ok \\d+ - ${way}`, 'm'), way)
    const [, total, passed] = /# \{ total: (\d+), pass: (\d+) \}/.exec(tested.stdout) ?? []
    t.equal(passed, total, 'nothing was skipped')
    t.ok(Number(total) >= 100, `${total} assertions`)

    t.ok(existsSync(join(folder, '.gitignore')))
    const { scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>
    }
    const workflow = readFileSync(join(folder, '.github/workflows/ci.yml'), 'utf8')
    const commands = [...workflow.matchAll(/- run: .*?npm (?:run )?(\S+)$/gm)].map(([, script]) => script!)
    t.same(commands, ['ci', 'test', 'lab'])
    for (const command of commands.slice(1)) t.ok(scripts[command], `the workflow's ${command} is there`)

    // The command that came with it: its bin, its modules, what those load.
    const uaccel = (...args: string[]) => runIn(folder, ['npx', '--no-install', 'uaccel', ...args])
    t.match(await uaccel('uapi', './dist/src/uapi.js', '--markdown'), { code: 0, stdout: /sum/ })
    t.match(await uaccel('lab', '--help'), { code: 0, stdout: /vfio-user:SOCKET/ })
  },
)
