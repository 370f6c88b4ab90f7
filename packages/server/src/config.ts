import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describeId, matchDriver } from '@uaccel/accel'
import { systemError } from '@uaccel/sys'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
import { accountId } from './accounts.js'
import { type ConfigValue, configRule, type DeviceValue, type NodeSettings } from './config-schema.js'
import { type JsonNode, jsonNode, parseJson } from './json.js'
import { type DriverModule, loadDriver, loadModel, resolveModule } from './modules.js'
import { ownFolder, requireSafe } from './place.js'
import type { Problem } from './rules.js'

/** Permissions of a socket, with users and groups as numbers. */
export interface SocketSettings {
  readonly mode?: number
  readonly owner?: number
  readonly group?: number
}

/** What an entry of `devices` names. */
export type Selector =
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'id'; readonly vendor: number; readonly device: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'vfioUser'; readonly path: string }
  | {
      readonly kind: 'model'
      readonly address: string
      readonly module: string
      readonly driver: DriverModule
    }

/** An entry of `devices`, checked, with the defaults in it. */
export interface Entry {
  readonly selector: Selector
  readonly driver: DriverModule | undefined
  readonly number: number | undefined
  readonly settings: Omit<NodeSettings, 'owner' | 'group'> & SocketSettings
}

/** A configuration that can be served. */
export interface Config {
  readonly folder: string
  readonly drivers: readonly DriverModule[]
  readonly entries: readonly Entry[]
  readonly control: SocketSettings
  readonly metrics: string | undefined
}

/** Where a configuration comes from. */
export interface ConfigSource {
  /** A file; relative paths in it begin at its folder. */
  readonly file?: string
  /** In place of a file. */
  readonly value?: ConfigValue | Readonly<Record<string, unknown>>
  /** Drivers where the configuration names none. */
  readonly drivers: readonly string[]
  /** Modules from which packages are looked for, after the file, and before the working directory where there is none: URLs. */
  readonly resolveFrom: readonly string[]
}

const MAX_FILE_BYTES = 1 << 20

/** The configuration that is taken where none is named: the user's, else the system's. `undefined` where there is none. */
export function defaultConfigFile(): string | undefined {
  const { XDG_CONFIG_HOME: own } = process.env
  const files = [...(own ? [join(own, 'uaccel/uaccel.json')] : []), '/etc/uaccel/uaccel.json']
  return files.find((file) => existsSync(file))
}

/**
 * Reads and checks a configuration. Nothing is opened and no device is touched; the packages of drivers are loaded.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT with all that is wrong in it, line by line (`details.problems`)
 * @throws ERR_ACCEL_NOT_FOUND there is no such file; or that is all that is wrong: no such package, user or group
 * @throws ERR_ACCEL_PERMISSION that is all that is wrong: others could change what is in the folder
 */
export async function readConfig(source: ConfigSource): Promise<Config> {
  const root =
    source.file === undefined ? jsonNode(source.value ?? {}) : parseJson(readText(source.file), source.file)
  const problems: (Problem & { code?: ErrorCode })[] = []
  const value = configRule.check(root, '', problems)
  if (value === undefined || problems.length > 0) throw refusal(source.file, problems)
  const at = (path: string, text: string, code?: ErrorCode) =>
    void problems.push({ path, line: lineOf(root, path), text, ...(code === undefined ? {} : { code }) })
  /** `work`, whose refusal is a problem of that place. */
  const tried = async <T>(path: string, work: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (!isAccelError(error)) throw error
      at(path, `: ${error.message}`, error.code)
      return undefined
    }
  }
  const config = await build(source, value, at, tried)
  if (problems.length > 0) throw refusal(source.file, problems)
  return config
}

type At = (path: string, text: string, code?: ErrorCode) => void
type Tried = <T>(path: string, work: () => T | Promise<T>) => Promise<T | undefined>

async function build(source: ConfigSource, value: ConfigValue, at: At, tried: Tried): Promise<Config> {
  const base = source.file === undefined ? process.cwd() : dirname(resolve(source.file))
  const own = join(base, 'uaccel.json')
  const others = [...source.resolveFrom, import.meta.url]
  // Without a file nobody chose the folder that the command runs in: what is there may be another user's.
  const bases = source.file === undefined ? [...others, own] : [own, ...others]
  const find = (name: string) => resolveModule(name, /^\.{0,2}\//.test(name) ? [own] : bases)
  const drivers: DriverModule[] = []
  for (const [i, name] of (value.drivers ?? source.drivers).entries()) {
    const path = `drivers[${i}]`
    const loaded = await tried(path, async () => {
      const module = find(name)
      return { source: name, module, driver: await loadDriver(module) }
    })
    const same = loaded && drivers.find(({ driver }) => driver.name === loaded.driver.name)
    if (same) at(path, `is a driver of the name ${same.driver.name}, which ${same.source} has already`)
    else if (loaded) drivers.push(loaded)
  }
  const entries: Entry[] = []
  const models = new Map<string, number>()
  const named = new Map<string, string>()
  const numbers = new Map<number, string>()
  const once = <K>(seen: Map<K, string>, key: K, path: string, what: string) => {
    const before = seen.get(key)
    if (before !== undefined) at(path, `is ${what}, which ${before} is already`)
    else seen.set(key, path)
  }
  for (const [i, device] of (value.devices ?? [{}]).entries()) {
    const path = `devices[${i}]`
    const driver =
      device.driver === undefined ? undefined : drivers.find(({ source }) => source === device.driver)
    if (device.driver !== undefined && !driver) {
      const there = drivers.map(({ source }) => source).join(', ') || 'none'
      at(`${path}.driver`, `wants one of \`drivers\`: ${there}`, 'ERR_ACCEL_NOT_FOUND')
    }
    if (device.number !== undefined) once(numbers, device.number, `${path}.number`, `accel${device.number}`)
    const which = (['address', 'id', 'vfioUser', 'model'] as const).filter((key) => device[key] !== undefined)
    if (which.length > 1) {
      at(path, `names its device by ${which.join(' and ')}: one of them`)
      continue
    }
    const selector = await tried(`${path}.${which[0]}`, () =>
      selectorOf(device, driver ? [driver] : drivers, drivers, models, base, find),
    )
    if (!selector) continue
    if (selector.kind === 'address') once(named, selector.address, `${path}.address`, selector.address)
    if (selector.kind === 'vfioUser') once(named, selector.path, `${path}.vfioUser`, selector.path)
    if (device.number !== undefined && (selector.kind === 'id' || selector.kind === 'all'))
      at(`${path}.number`, 'is for one device, and this entry is for all that fit: name it by `address`')
    const merged = merge(value.defaults ?? {}, device)
    const accounts = await accountsOf(merged, tried, (key) => (device[key] === undefined ? 'defaults' : path))
    const { owner: _owner, group: _group, ...settings } = merged
    const { baseMs = 1000, capMs = Math.max(60_000, baseMs) } = settings.backOff ?? {}
    if (capMs < baseMs) at(`${path}`, `has a backOff.capMs of ${capMs}, less than its baseMs of ${baseMs}`)
    entries.push({ selector, driver, number: device.number, settings: { ...settings, ...accounts } })
  }
  const { owner: _owner, group: _group, ...control } = value.control ?? {}
  const folder = value.folder ?? (await tried('folder', ownFolder)) ?? ''
  await tried('folder', () => requireSafe(folder))
  return {
    folder,
    drivers,
    entries,
    control: { ...control, ...(await accountsOf(value.control ?? {}, tried, () => 'control')) },
    metrics: value.metrics,
  }
}

async function selectorOf(
  device: DeviceValue,
  candidates: readonly DriverModule[],
  drivers: readonly DriverModule[],
  models: Map<string, number>,
  base: string,
  find: (name: string) => string,
): Promise<Selector> {
  const { address, id, vfioUser, model } = device
  if (address !== undefined) return { kind: 'address', address }
  if (id !== undefined) {
    const [vendor = 0, product = 0] = id.split(':').map((part) => Number.parseInt(part, 16))
    return { kind: 'id', vendor, device: product }
  }
  if (vfioUser !== undefined) return { kind: 'vfioUser', path: resolve(base, vfioUser) }
  if (model === undefined) return { kind: 'all' }
  const module = modelModule(model, drivers, find)
  const definition = await loadModel(module)
  const identity = {
    subsystemVendor: 0,
    subsystem: 0,
    revision: 0,
    ...definition.identity,
    bus: 'pci',
    transport: { kind: 'loopback', address: model },
  } as const
  const matched = matchDriver(
    candidates.map((candidate) => ({ ids: candidate.driver.ids, candidate })),
    identity,
  )
  if (!matched) {
    const known = candidates.map(({ source }) => source).join(', ') || 'none'
    throw accelError(
      'ERR_ACCEL_NO_DRIVER',
      `the model ${model} (${describeId(identity)}) has no driver among ${known}`,
    )
  }
  const count = (models.get(model) ?? 0) + 1
  models.set(model, count)
  const suffix = count === 1 ? '' : `-${count}`
  return { kind: 'model', address: `${definition.identity.name}${suffix}`, module, driver: matched.candidate }
}

/** The module of a model: named itself, or by the driver beside which it is. */
function modelModule(
  model: string,
  drivers: readonly DriverModule[],
  find: (name: string) => string,
): string {
  if (/[/\\]|^@/.test(model)) return find(model)
  const beside = drivers.find(({ driver }) => driver.name === model)
  if (beside) return find(`${beside.source}/model`)
  const there = drivers.map(({ driver }) => driver.name).join(', ') || 'none'
  throw accelError('ERR_ACCEL_NOT_FOUND', `no model or driver "${model}"; there are ${there}`)
}

/** What an entry says, over what holds for all: of objects, member by member. */
function merge(defaults: NodeSettings, device: DeviceValue): NodeSettings {
  const { address: _a, id: _i, vfioUser: _v, model: _m, driver: _d, number: _n, ...own } = device
  const merged: Record<string, unknown> = { ...defaults, ...own }
  for (const key of ['limits', 'quotas', 'timeouts', 'backOff'] as const) {
    if (defaults[key] || own[key]) merged[key] = { ...defaults[key], ...own[key] }
  }
  return merged as NodeSettings
}

async function accountsOf(
  { owner, group }: { readonly owner?: string | number; readonly group?: string | number },
  tried: Tried,
  place: (key: 'owner' | 'group') => string,
): Promise<{ owner?: number; group?: number }> {
  const uid =
    owner === undefined ? undefined : await tried(`${place('owner')}.owner`, () => accountId('user', owner))
  const gid =
    group === undefined ? undefined : await tried(`${place('group')}.group`, () => accountId('group', group))
  return { ...(uid === undefined ? {} : { owner: uid }), ...(gid === undefined ? {} : { group: gid }) }
}

function readText(file: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (cause) {
    const { errno } = cause as NodeJS.ErrnoException
    if (errno === undefined) throw cause
    const { code, message } = systemError('open', errno, file)
    throw accelError(code, `The configuration ${file} cannot be read: ${message}`, { cause })
  }
  if (bytes.length > MAX_FILE_BYTES)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${file} has ${bytes.length} bytes; ${MAX_FILE_BYTES} are the most`,
    )
  return bytes.toString('utf8')
}

/** The line of a place such as `devices[1].mode`, or of what is nearest around it. */
function lineOf(root: JsonNode, path: string): number {
  let node = root
  for (const [, name, index] of path.matchAll(/([A-Za-z]+)|\[(\d+)\]/g)) {
    const { value } = node
    const next: JsonNode | undefined =
      name !== undefined && value instanceof Map
        ? value.get(name)
        : Array.isArray(value)
          ? (value as JsonNode[])[Number(index)]
          : undefined
    if (!next) break
    node = next
  }
  return node.line
}

function refusal(
  file: string | undefined,
  problems: readonly (Problem & { code?: ErrorCode })[],
): AccelError {
  const codes = new Set(problems.map(({ code = 'ERR_ACCEL_INVALID_ARGUMENT' }) => code))
  const [code = 'ERR_ACCEL_INVALID_ARGUMENT'] = codes.size === 1 ? codes : []
  const lines = [...problems]
    .sort((a, b) => a.line - b.line)
    .map(({ path, line, text }) => {
      const what = `${path === '' ? 'the configuration' : path}${text.startsWith(':') ? '' : ' '}${text}`
      return file === undefined ? what : `${file}:${line}: ${what}`
    })
  const unique = [...new Set(lines)]
  return accelError(code, unique.join('\n'), { details: { file, problems: unique.length } })
}
