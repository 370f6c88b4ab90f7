import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/**
 * Which package may stand on which (docs/design/0001-imports.md). Biome's noUndeclaredDependencies lets a file import only what
 * its package declares; this holds what packages declare. A package may use all that its own dependencies may use.
 */
const mayUse: Readonly<Record<string, readonly string[]>> = {
  uapi: [],
  sys: ['uapi'],
  memory: ['sys'],
  core: ['memory'],
  model: ['core'],
  trace: ['core'],
  accel: ['trace'],
  replay: ['model', 'trace'],
  client: ['memory'],
  server: ['accel', 'vfio-user'],
  'vfio-user': ['model'],
  'driver-edu': ['accel', 'model'],
  'driver-npu': ['accel', 'model', 'webnn'],
  'driver-nvme': ['accel', 'model'],
  virtio: ['model'],
  'driver-virtio-crypto': ['accel', 'virtio'],
  inference: ['webnn'],
  webnn: ['client'],
  lab: ['uapi'],
  testkit: ['server', 'driver-edu', 'lab'],
  'create-driver': [],
  'register-import': ['core'],
  cli: [
    'inference',
    'driver-edu',
    'driver-npu',
    'driver-nvme',
    'driver-virtio-crypto',
    'vfio-user',
    'replay',
    'server',
    'client',
    'lab',
    'register-import',
  ],
}

const packages = new URL('../../packages/', import.meta.url)

interface Manifest {
  version: string
  dependencies?: Record<string, string>
}

const manifest = (name: string): Manifest =>
  JSON.parse(readFileSync(new URL(`${name}/package.json`, packages), 'utf8')) as Manifest

function reachable(name: string): Set<string> {
  return new Set(mayUse[name]?.flatMap((next) => [next, ...reachable(next)]))
}

/** Modules that a compiled file imports by name. */
function imported(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?'(@uaccel\/[^']+)'/g)].map(
    ([, name]) => name!,
  )
}

t.same(readdirSync(fileURLToPath(packages)).sort(), Object.keys(mayUse).sort(), 'every package has its place')

t.test('packages depend downwards only, in lockstep', async (t) => {
  for (const name of Object.keys(mayUse)) {
    const { version, dependencies = {} } = manifest(name)
    const used = Object.keys(dependencies)
      .filter((dependency) => dependency.startsWith('@uaccel/'))
      .map((dependency) => dependency.slice('@uaccel/'.length))
    t.same(
      used.filter((dependency) => !reachable(name).has(dependency)),
      [],
      `${name} declares nothing above it`,
    )
    for (const dependency of used)
      t.equal(dependencies[`@uaccel/${dependency}`], version, `${name} and ${dependency} go together`)
  }
})

t.test('what no driver file may import', async (t) => {
  for (const name of ['driver-edu', 'driver-npu', 'driver-nvme', 'driver-virtio-crypto', 'virtio']) {
    const folder = fileURLToPath(new URL(`${name}/`, packages))
    const files = readdirSync(`${folder}src`, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts'),
    )
    t.ok(files.length >= 3)
    for (const file of files) {
      const modules = imported(`${folder}src/${file}`)
      const wrong = modules.filter((module) =>
        /^@uaccel\/(model|vfio-user|sys|testkit|lab)|\/model/.test(module),
      )
      t.same(wrong, [], `${name}/src/${file}: no transport, no model, no system call`)
    }
  }
})
