import { ATTRIBUTE_PATH_BYTES, ATTRIBUTE_VALUE_BYTES, accelError } from '@uaccel/uapi'
import { Bell } from './bell.js'
import { within } from './limit.js'
import type { Open } from './open.js'

type MaybePromise<T> = T | Promise<T>

/** What `show` may give; it is told as text, and `true` and `false` as `1` and `0`. */
export type AttributeValue = string | number | bigint | boolean

/** What `show` and `store` get besides. */
export interface AttributeContext {
  /** Aborted when nobody waits any more. */
  readonly signal: AbortSignal
}

/** An attribute of a device, as its driver writes it: one value, as in a file of sysfs. */
export interface AttributeDefinition {
  /** The value now. It runs beside commands, also beside itself. */
  show?(context: AttributeContext): MaybePromise<AttributeValue>
  /** Takes a new value, which fits `type`; throws where it cannot. */
  store?(value: string, context: AttributeContext): MaybePromise<void>
  /** Who may read and write it: bits as of a file, without those for execution. 0o444 unless told; with `store` 0o644. */
  readonly mode?: number
  /** `stable`, unless told: as sysfs, what clients may build on. `debug`: as debugfs, for the owner alone, and changed at will. */
  readonly scope?: 'stable' | 'debug'
  /** What the text means; `text` unless told. */
  readonly type?: 'text' | 'integer' | 'number' | 'boolean'
  /** Such as `bytes` or `Hz`, at most 16 bytes. */
  readonly unit?: string
}

/** Attributes by path, such as `queues/inUse`. */
export type AttributeDefinitions = Readonly<Record<string, AttributeDefinition | Attribute>>

/** An attribute that tells those who watch it of changes: see {@link attribute}. */
export class Attribute {
  /** @internal */
  readonly definition: AttributeDefinition
  #notify: (() => void) | undefined

  /** @internal */
  constructor(definition: AttributeDefinition) {
    this.definition = definition
  }

  /** The value is another than before: those who watch it are shown it. */
  changed(): void {
    this.#notify?.()
  }

  /** @internal Called when it becomes an attribute of a node, and without a listener when it ends to be. */
  notify(listener?: () => void): void {
    this.#notify = listener
  }
}

/** Makes an attribute with `changed()`, for the table that `probe` answers. It belongs to one device. */
export function attribute(definition: AttributeDefinition): Attribute {
  return new Attribute(definition)
}

/** An attribute at its place. */
export interface Placed {
  readonly path: string
  readonly definition: AttributeDefinition
  readonly mode: number
  readonly scope: 'stable' | 'debug'
  readonly type: 'text' | 'integer' | 'number' | 'boolean'
  readonly unit: string
}

/** Folders of the common attributes, which are the same for all drivers. */
const commonNames = ['identity', 'state', 'counters', 'irqs', 'dma', 'opens']

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/
const UNIT_BYTES = 16
/** Bits that an attribute may have: reading and writing, for owner, group and others. */
const MODE_BITS = 0o666
const shift = { owner: 6, group: 3, other: 0 } as const
const access = { read: 0o4, write: 0o2 } as const
/** What a value of a type looks like. */
const forms = {
  text: /^\P{Cs}*$/u,
  integer: /^(-?[0-9]+|0x[0-9a-f]+)$/i,
  number: /^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/i,
  boolean: /^[01]$/,
} as const

/** What a tree needs of its node. */
export interface AttributeHost {
  readonly name: string
  /** What `show` and `store` may take, in milliseconds. */
  readonly limitMs: number
  /** The common attributes, as of now. */
  common(): AttributeDefinitions
  /** Resolves when the driver can be asked: no reset is under way. */
  ready(): Promise<void>
}

/** The attributes of a node: those that all have, and its driver's. */
export class AttributeTree {
  /** Who watches, by path: all clients may watch, and a change is for those of that attribute alone. */
  readonly #bells = new Map<string, Bell>()
  readonly #host: AttributeHost
  #driver = new Map<string, Placed>()
  /** Revisions are counted over all attributes and probes, so that none is ever given twice. */
  #latest = 1
  /** The revision of the driver's attributes that have not changed since its probe. */
  #probed = 1
  readonly #revisions = new Map<string, number>()
  /** Attributes of which an earlier call does not end. */
  readonly #hung = new Set<AttributeDefinition>()
  /** Those of the driver's that tell of changes. */
  #telling: readonly Attribute[] = []

  constructor(host: AttributeHost) {
    this.#host = host
  }

  /** The latest revision that was given. */
  get latest(): number {
    return this.#latest
  }

  /** Takes the driver's attributes over, in place of those of an earlier probe. `ERR_ACCEL_INVALID_ARGUMENT` for what cannot work. */
  adopt(definitions: AttributeDefinitions = {}): void {
    const placed = new Map(Object.entries(definitions).map(([path, each]) => [path, place(path, each)]))
    for (const path of placed.keys()) checkPlace(path, placed)
    for (const attribute of this.#telling) attribute.notify()
    for (const path of this.#driver.keys()) this.#revisions.delete(path)
    this.#driver = placed
    this.#probed = ++this.#latest
    const telling: Attribute[] = []
    for (const [path, each] of Object.entries(definitions)) {
      if (!(each instanceof Attribute)) continue
      each.notify(() => this.changed(path))
      telling.push(each)
    }
    this.#telling = telling
    for (const bell of this.#bells.values()) bell.ring()
  }

  /** The attribute has another value. */
  changed(path: string): void {
    this.#revisions.set(path, ++this.#latest)
    this.#bells.get(path)?.ring()
  }

  /** Resolves when the attribute of that path has changed, or may be another one; rejects with the reason of `signal`. */
  async change(path: string, signal: AbortSignal): Promise<void> {
    const bell = this.#bells.get(path) ?? new Bell()
    this.#bells.set(path, bell)
    try {
      await bell.wait(signal)
    } finally {
      if (bell.waiting === 0 && this.#bells.get(path) === bell) this.#bells.delete(path)
    }
  }

  /** How many wait for changes. */
  get watching(): number {
    let sum = 0
    for (const { waiting } of this.#bells.values()) sum += waiting
    return sum
  }

  revision({ path }: Placed): number {
    return this.#revisions.get(path) ?? (this.#driver.has(path) ? this.#probed : 1)
  }

  /** What `open` may know of, below `path` or at it, by path. `ERR_ACCEL_NOT_FOUND` where there is nothing. */
  async list(open: Open, path: string): Promise<Placed[]> {
    await this.#host.ready()
    const under = path === '' ? '' : `${path}/`
    const common = Object.entries(this.#host.common()).map(([name, each]) => place(name, each))
    const found = [...common, ...this.#driver.values()].filter(
      (each) =>
        (each.path === path || each.path.startsWith(under)) &&
        (each.scope === 'stable' || open.rights.as === 'owner'),
    )
    if (found.length === 0) throw this.#notFound(path)
    return found.sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /** The attribute of that path. `ERR_ACCEL_NOT_FOUND`; `ERR_ACCEL_PERMISSION` where the open may not do that with it. */
  async find(open: Open, path: string, to: 'read' | 'write'): Promise<Placed> {
    const common = this.#host.common()
    let placed = Object.hasOwn(common, path) ? place(path, common[path]!) : undefined
    if (!placed) {
      await this.#host.ready()
      placed = this.#driver.get(path)
    }
    if (!placed) throw this.#notFound(path)
    const { mode, scope } = placed
    const { as } = open.rights
    const allowed = ((mode >> shift[as]) & access[to]) !== 0
    if (allowed && (scope === 'stable' || as === 'owner')) return placed
    const rule = `mode ${mode.toString(8).padStart(4, '0')}, scope ${scope}`
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `Open ${open.id} may not ${to} attribute ${path} of ${this.#host.name} (${rule}) as ${as}`,
    )
  }

  /**
   * The value of an attribute, as text. Errors: what its driver throws, `ERR_ACCEL_TIMEOUT`, `ERR_ACCEL_AGAIN` where an earlier call
   * of it does not end, `ERR_ACCEL_OUT_OF_RANGE` where it is too long, `ERR_ACCEL_IO` where it is not of its type.
   */
  async show({ path, type, definition }: Placed): Promise<string> {
    const value: unknown = await this.#run(path, 'show', definition, (context) => definition.show!(context))
    const text = typeof value === 'boolean' ? (value ? '1' : '0') : String(value)
    if (!['string', 'number', 'bigint', 'boolean'].includes(typeof value) || !forms[type].test(text)) {
      throw accelError(
        'ERR_ACCEL_IO',
        `Attribute ${path} of ${this.#host.name} is of type ${type}, and its driver gave ${JSON.stringify(text.slice(0, 40))}`,
      )
    }
    const sizeBytes = Buffer.byteLength(text)
    if (sizeBytes <= ATTRIBUTE_VALUE_BYTES) return text
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `Attribute ${path} of ${this.#host.name} gave ${sizeBytes} bytes, at most ${ATTRIBUTE_VALUE_BYTES} are told`,
    )
  }

  /** Sets an attribute; answers its revision. `ERR_ACCEL_INVALID_ARGUMENT` for a value of another type, else as for {@link show}. */
  async store(placed: Placed, given: string): Promise<number> {
    const { path, type, definition } = placed
    const value = given.endsWith('\n') ? given.slice(0, -1) : given
    if (!forms[type].test(value)) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `Attribute ${path} of ${this.#host.name} wants ${type === 'boolean' ? '0 or 1' : `a value of type ${type}`}, found ${JSON.stringify(value.slice(0, 40))}`,
      )
    }
    await this.#run(path, 'store', definition, (context) => definition.store!(value, context))
    this.changed(path)
    return this.revision(placed)
  }

  #notFound(path: string) {
    return accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${this.#host.name} has no attribute ${JSON.stringify(path)}; attrList tells which there are`,
    )
  }

  async #run<T>(
    path: string,
    what: string,
    definition: AttributeDefinition,
    work: (context: AttributeContext) => MaybePromise<T>,
  ): Promise<T> {
    const { name, limitMs } = this.#host
    if (this.#hung.has(definition)) {
      throw accelError(
        'ERR_ACCEL_AGAIN',
        `Attribute ${path} of ${name} is not asked: an earlier ${what} of it has not ended`,
      )
    }
    const abort = new AbortController()
    let ended = false
    const running = Promise.resolve()
      .then(() => work({ signal: abort.signal }))
      .finally(() => {
        ended = true
        this.#hung.delete(definition)
      })
    try {
      return await within(running, limitMs, `${what} of attribute ${path} of ${name}`)
    } finally {
      if (!ended) {
        this.#hung.add(definition)
        running.catch(() => {}) // its caller has an answer already
        abort.abort(accelError('ERR_ACCEL_TIMEOUT', `Nobody waits for attribute ${path} any more`))
      }
    }
  }
}

/** Fills in what a definition leaves out. */
function place(path: string, given: AttributeDefinition | Attribute): Placed {
  const definition = given instanceof Attribute ? given.definition : given
  const { show, store, scope = 'stable', type = 'text', unit = '' } = definition
  const mode = definition.mode ?? (show ? 0o444 : 0) | (store ? 0o200 : 0)
  const bad = (problem: string) =>
    accelError('ERR_ACCEL_INVALID_ARGUMENT', `Attribute ${JSON.stringify(path)} ${problem}`)
  if (!path.split('/').every((name) => NAME.test(name)) || path.length > ATTRIBUTE_PATH_BYTES) {
    throw bad(
      `has no path: names of letters, digits, ".", "_" and "-", with "/" between, at most ${ATTRIBUTE_PATH_BYTES} bytes`,
    )
  }
  if (!Number.isInteger(mode) || mode <= 0 || (mode & ~MODE_BITS) !== 0)
    throw bad(`wants a mode of read and write bits, found 0o${Number(mode).toString(8)}`)
  if ((mode & 0o444) !== 0 && typeof show !== 'function') throw bad('may be read, and has no show')
  if ((mode & 0o222) !== 0 && typeof store !== 'function') throw bad('may be written, and has no store')
  if (!Object.hasOwn(forms, type)) throw bad(`is of an unknown type ${type}`)
  if (scope !== 'stable' && scope !== 'debug') throw bad(`is of an unknown scope ${scope}`)
  if (Buffer.byteLength(unit) > UNIT_BYTES) throw bad(`has a unit of more than ${UNIT_BYTES} bytes: ${unit}`)
  return { path, definition, mode, scope, type, unit }
}

/** Refuses what is in the place of a common attribute, or below another attribute. */
function checkPlace(path: string, others: ReadonlyMap<string, unknown>): void {
  const names = path.split('/')
  if (commonNames.includes(names[0]!)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `Attribute ${path}: ${names[0]} is of the common ones; take another name`,
    )
  }
  for (let i = 1; i < names.length; i++) {
    const folder = names.slice(0, i).join('/')
    if (others.has(folder))
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `Attribute ${path} is below ${folder}, which is one itself`,
      )
  }
}
