import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AccelError } from '@uaccel/uapi'
import { run } from './child.js'
import type { OnProgress } from './progress.js'

/** The release of Debian with the newest kernel source and QEMU. */
export const newestDebian = 'forky'

/** A source of packages in deb822 form (sources.list(5)): field names in lower case, values as written. */
export type AptSource = ReadonlyMap<string, string>

/** Reads one file of sources, in the one-line form or in deb822 form. Switched-off sources are left out. */
export function parseSources(text: string, form: 'list' | 'sources'): AptSource[] {
  return form === 'list' ? text.split('\n').flatMap(parseLine) : parseStanzas(text)
}

const fieldOfOption: Readonly<Record<string, string>> = { arch: 'architectures' }

function parseLine(line: string): AptSource[] {
  const found = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line)
  if (!found) return []
  const [, options = '', uri, suite, components] = found
  const source = new Map([
    ['types', 'deb'],
    ['uris', uri!],
    ['suites', suite!],
    ['components', components!.trim()],
  ])
  for (const option of options.split(/\s+/).filter(Boolean)) {
    const [key, value] = option.split('=', 2) as [string, string]
    source.set(fieldOfOption[key] ?? key.toLowerCase(), value.replaceAll(',', ' '))
  }
  return [source]
}

function parseStanzas(text: string): AptSource[] {
  const sources: AptSource[] = []
  for (const stanza of text.split(/\n\s*\n/)) {
    const source = new Map<string, string>()
    let field = ''
    for (const line of stanza.split('\n')) {
      if (line.startsWith('#')) continue
      const found = /^([\w-]+):\s*(.*)$/.exec(line)
      if (found) {
        field = found[1]!.toLowerCase()
        source.set(field, found[2]!)
      } else if (field !== '' && /^\s/.test(line)) {
        source.set(field, `${source.get(field)}\n${line}`) // a key written into the file, for one
      }
    }
    if (source.get('enabled')?.toLowerCase() === 'no') continue
    if (source.get('types')?.split(/\s+/).includes('deb')) sources.push(source)
  }
  return sources
}

/** The sources of the machine's own apt. Files that this user may not read are passed over. */
export async function machineSources(etc = '/etc/apt'): Promise<AptSource[]> {
  const parts = (await readdir(join(etc, 'sources.list.d')).catch(() => [])).sort()
  const files = ['sources.list', ...parts.map((name) => `sources.list.d/${name}`)]
  const sources: AptSource[] = []
  for (const file of files) {
    const form = /\.(list|sources)$/.exec(file)?.[1] as 'list' | 'sources' | undefined
    if (form === undefined) continue
    sources.push(...parseSources(await readFile(join(etc, file), 'utf8').catch(() => ''), form))
  }
  return sources
}

/**
 * The sources that carry a release of the distribution itself, not what others offer for it.
 * @param codename release, such as `bookworm`: it, its updates and its security fixes are kept
 */
export function releaseSources(sources: readonly AptSource[], codename: string): AptSource[] {
  const belongs = (suite: string) =>
    suite === codename || /^[-/](updates|security)$/.test(suite.slice(codename.length))
  return sources.flatMap((source) => {
    const suites = source
      .get('suites')!
      .split(/\s+/)
      .filter((suite) => suite.startsWith(codename) && belongs(suite))
    if (suites.length === 0 || !source.get('components')?.split(/\s+/).includes('main')) return []
    return [new Map([...source, ['types', 'deb'], ['suites', suites.join(' ')]])]
  })
}

/** The same mirrors, asked for another release of the distribution. */
export function otherRelease(sources: readonly AptSource[], codename: string, other: string): AptSource[] {
  return sources
    .filter((source) => source.get('suites')!.split(/\s+/).includes(codename))
    .map((source) => new Map([...source, ['suites', other], ['components', 'main']]))
}

/**
 * apt with a state of its own: no root is needed, nothing of the machine is changed, and no package counts as
 * installed, so that what it resolves is complete in itself.
 */
export class PrivateApt {
  readonly #folder: string
  readonly #signal: AbortSignal | undefined

  private constructor(folder: string, signal: AbortSignal | undefined) {
    this.#folder = folder
    this.#signal = signal
  }

  /**
   * Writes the configuration into a folder and fetches the lists of packages.
   * @throws ERR_ACCEL_SYSTEM with what apt said
   */
  static async open(
    folder: string,
    sources: readonly AptSource[],
    options: { onProgress?: OnProgress | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<PrivateApt> {
    await mkdir(join(folder, 'state/lists/partial'), { recursive: true })
    await mkdir(join(folder, 'cache/archives/partial'), { recursive: true })
    await writeFile(join(folder, 'state/status'), '')
    const stanza = (source: AptSource) => [...source].map(([field, value]) => `${field}: ${value}\n`).join('')
    await writeFile(join(folder, 'lab.sources'), sources.map(stanza).join('\n'))
    const settings: readonly (readonly [string, string])[] = [
      ['Dir::State', join(folder, 'state')],
      ['Dir::State::status', join(folder, 'state/status')],
      ['Dir::Cache', join(folder, 'cache')],
      ['Dir::Etc::sourcelist', join(folder, 'lab.sources')],
      ['Dir::Etc::sourceparts', '/dev/null'],
      ['Dir::Etc::preferences', '/dev/null'],
      ['Dir::Etc::preferencesparts', '/dev/null'],
      ['APT::Architecture', 'amd64'],
      ['APT::Architectures', 'amd64'],
      ['APT::Get::AllowUnauthenticated', 'false'],
      ['APT::Install-Recommends', 'false'],
      ['Acquire::Languages', 'none'],
      ['Acquire::Retries', '3'],
    ]
    // The hooks are the machine's own, and would touch folders that this user may not.
    const hooks = [
      'APT::Architectures',
      'APT::Update::Pre-Invoke',
      'APT::Update::Post-Invoke',
      'APT::Update::Post-Invoke-Success',
    ]
    // Root's apt would drop to a user who may not write here.
    const sandbox = process.getuid?.() === 0 ? ['APT::Sandbox::User "root";'] : []
    const lines = [
      ...hooks.map((name) => `#clear ${name};`),
      ...settings.map(([name, value]) => `${name} "${value}";`),
      ...sandbox,
    ]
    await writeFile(join(folder, 'apt.conf'), `${lines.join('\n')}\n`)
    const apt = new PrivateApt(folder, options.signal)
    await apt.#run('apt-get', ['update', '-qq'], 'package lists', options.onProgress)
    return apt
  }

  /** The names of packages, and of all that they need, as apt resolves them. */
  async closure(packages: readonly string[]): Promise<string[]> {
    const text = await this.#run('apt-get', ['install', '-y', '-qq', '--print-uris', ...packages])
    // 'URI' FILE SIZE HASH, where FILE is NAME_VERSION_ARCHITECTURE.deb
    return [...text.matchAll(/^'[^']+' ([^_\s]+)_\S+\.deb \d+/gm)].map((found) => found[1]!)
  }

  /** All packages whose names begin so. */
  async names(prefix: string): Promise<string[]> {
    return (await this.#run('apt-cache', ['pkgnames', prefix])).split('\n').filter(Boolean)
  }

  /** Fetches packages, checked against the signed lists, and unpacks them into a folder. */
  async unpack(packages: readonly string[], into: string, onProgress?: OnProgress): Promise<void> {
    const archives = join(this.#folder, 'archives')
    await mkdir(archives, { recursive: true })
    const what = packages.length === 1 ? packages[0]! : `${packages.length} packages`
    await this.#run('apt-get', ['download', '-qq', ...packages], what, onProgress, archives)
    const files = (await readdir(archives)).filter((name) => name.endsWith('.deb'))
    let done = 0
    for (const file of files) {
      onProgress?.({ stage: 'unpack', message: file.split('_')[0]!, fraction: done++ / files.length })
      await run(['dpkg-deb', '-x', join(archives, file), into], { signal: this.#signal })
    }
  }

  #run(program: string, args: string[], what = '', onProgress?: OnProgress, cwd?: string): Promise<string> {
    const config = ['-c', join(this.#folder, 'apt.conf')]
    let told = -1
    return run([program, ...config, ...(onProgress ? ['-o', 'APT::Status-Fd=3'] : []), ...args], {
      ...(cwd !== undefined && { cwd }),
      signal: this.#signal,
      ...(onProgress && {
        onStatus: (line: string) => {
          const percent = Math.floor(Number(/^dlstatus:\d+:([\d.]+):/.exec(line)?.[1])) // apt's README.progress-reporting
          if (!(percent > told)) return
          told = percent
          onProgress({ stage: 'fetch', message: what, fraction: percent / 100 })
        },
      }),
    })
  }
}

/** `ID` and `VERSION_CODENAME` of os-release(5), for a distribution that has apt. */
export async function aptDistribution(
  osRelease = '/etc/os-release',
): Promise<{ id: 'debian' | 'ubuntu'; codename: string }> {
  const text = await readFile(osRelease, 'utf8').catch(() => '')
  const value = (key: string) => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(text)?.[1]
  const ids = `${value('ID') ?? ''} ${value('ID_LIKE') ?? ''}`.split(' ')
  const id = (['ubuntu', 'debian'] as const).find((each) => ids.includes(each))
  const codename = (id === 'ubuntu' ? value('UBUNTU_CODENAME') : undefined) ?? value('VERSION_CODENAME')
  if (id === undefined || codename === undefined) {
    throw new AccelError(
      'ERR_ACCEL_NOT_FOUND',
      `the lab fetches its tools on Debian and Ubuntu only; this is ${value('PRETTY_NAME') ?? 'unknown'}`,
    )
  }
  return { id, codename }
}

/**
 * apt for the machine's own release, or for another one of the same distribution from the same mirrors.
 * @throws ERR_ACCEL_NOT_FOUND where this is no such distribution, or names no source of its release
 */
export async function openReleaseApt(
  work: string,
  options: { onProgress?: OnProgress | undefined; signal?: AbortSignal | undefined; release?: string },
): Promise<PrivateApt> {
  const { codename } = await aptDistribution()
  const sources = releaseSources(await machineSources(), codename)
  if (sources.length === 0) {
    throw new AccelError(
      'ERR_ACCEL_NOT_FOUND',
      `no source of ${codename} with the component 'main' among the machine's apt sources: the lab cannot fetch its tools`,
    )
  }
  const { release = codename } = options
  const folder = join(work, `apt-${release}`)
  return PrivateApt.open(
    folder,
    release === codename ? sources : otherRelease(sources, codename, release),
    options,
  )
}
