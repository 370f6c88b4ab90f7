// Makes reference/ of the doc comments of all that packages export. Run by `npm run docs`, after the packages were built.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Application, PackageJsonReader, TSConfigReader } from 'typedoc'

const packages = new URL('../packages/', import.meta.url)

/** Each public entry of a package: the file that declares its types, what typedoc calls that, and what one imports. */
const entries = readdirSync(packages).flatMap((folder) => {
  const { name, exports } = JSON.parse(readFileSync(new URL(`${folder}/package.json`, packages), 'utf8'))
  return Object.entries(exports)
    .filter(([, target]) => target.types)
    .map(([path, { types }]) => {
      const file = join(folder, types)
      return { file, module: file.replace(/(\/index)?\.d\.ts$/, ''), name: name + path.slice(1) }
    })
})

const app = await Application.bootstrapWithPlugins(
  {
    name: 'Reference',
    entryPoints: entries.map(({ file }) => fileURLToPath(new URL(file, packages))),
    tsconfig: fileURLToPath(new URL('tsconfig.json', import.meta.url)),
    plugin: ['typedoc-plugin-markdown', 'typedoc-vitepress-theme'],
    docsRoot: fileURLToPath(new URL('.', import.meta.url)),
    out: fileURLToPath(new URL('reference', import.meta.url)),
    outputFileStrategy: 'modules',
    hideBreadcrumbs: true,
    useCodeBlocks: true,
    parametersFormat: 'table',
    interfacePropertiesFormat: 'table',
    typeAliasPropertiesFormat: 'table',
    enumMembersFormat: 'table',
    readme: 'none',
    disableSources: true,
    excludePrivate: true,
    excludeInternal: true,
    skipErrorChecking: true,
    logLevel: 'Warn',
    validation: false,
    treatWarningsAsErrors: false,
  },
  [new TSConfigReader(), new PackageJsonReader()],
)
app.converter.on('resolveBegin', ({ project }) => {
  for (const reflection of project.children)
    reflection.name = entries.find(({ module }) => module === reflection.name).name
})
const project = await app.convert()
if (!project) throw new Error('the doc comments could not be read: were the packages built?')
await app.generateOutputs(project)
if (app.logger.hasErrors()) process.exit(1)
