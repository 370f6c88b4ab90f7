import { setTimeout as sleep } from 'node:timers/promises'
import {
  type AccelError,
  type CallOptions,
  type CommandOutput,
  type commonUapi,
  isAccelError,
  type QueryKind,
  type QueryOutput,
} from '@uaccel/uapi'
import { clean } from '../text.js'
import type { CommonNode } from './find.js'

type Common = typeof commonUapi
export type AttributeEntry = CommandOutput<Common, 'attrList'>['entries'][number]
export type ShownAttribute = CommandOutput<Common, 'attrShow'>

type ListOf<A> = A extends { readonly entries: readonly (infer E)[]; readonly total: number } ? E : never
/** Kinds of QUERY that are lists. */
export type ListKind = { [K in QueryKind]: [ListOf<QueryOutput<K>>] extends [never] ? never : K }[QueryKind]
/** An entry of a list kind. */
export type EntryOf<K extends ListKind> = ListOf<QueryOutput<K>>

/** What to ask a node for. */
export interface Wanted {
  readonly kinds: Iterable<QueryKind>
  /** Folders of attributes, or single ones. */
  readonly attributes?: Iterable<string>
}

/** What a node said of itself at one time. What it has nothing of is absent, and so is what failed. */
export interface Snapshot {
  readonly node: string
  /** When it was asked: CLOCK_MONOTONIC, and CLOCK_REALTIME. */
  readonly atNs: bigint
  readonly realtimeNs: bigint
  /** Lists are whole. */
  readonly answers: { readonly [K in QueryKind]?: QueryOutput<K> }
  readonly attributes: ReadonlyMap<string, ShownAttribute>
  /** What could not be told, by kind or path. */
  readonly failures: readonly { readonly what: string; readonly error: AccelError }[]
}

/** A list of a node ends somewhere, whatever its server says. */
const MAX_ENTRIES = 4096

/**
 * Asks a node. One kind that fails is told in `failures`; a node that is gone, or does not answer at all, is an error.
 *
 * @throws ERR_ACCEL_NO_DEVICE, ERR_ACCEL_TIMEOUT, ERR_ACCEL_CLOSED, ERR_ACCEL_ABORTED
 */
export async function ask(client: CommonNode, wanted: Wanted, options: CallOptions = {}): Promise<Snapshot> {
  const answers: Partial<Record<QueryKind, unknown>> = {}
  const attributes = new Map<string, ShownAttribute>()
  const failures: { what: string; error: AccelError }[] = []
  const atNs = process.hrtime.bigint()
  const realtimeNs = BigInt(Date.now()) * 1_000_000n
  let answered = false
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work()
      answered = true
    } catch (error) {
      if (!isAccelError(error) || error.code === 'ERR_ACCEL_ABORTED') throw error
      if (error.code !== 'ERR_ACCEL_TIMEOUT') answered = true
      failures.push({ what, error })
    }
  }
  await Promise.all([
    ...[...wanted.kinds].map((kind) =>
      attempt(kind, async () => {
        answers[kind] = await whole(client, kind, options)
      }),
    ),
    ...[...(wanted.attributes ?? [])].map((folder) =>
      attempt(folder, async () => {
        const shown = await attributesIn(client, folder, options)
        for (const { path, value, error } of shown) {
          if (value) attributes.set(path, value)
          else if (error && error.code !== 'ERR_ACCEL_PERMISSION') failures.push({ what: path, error })
        }
      }),
    ),
  ])
  // Of a node that is gone everything fails, with the same words.
  const [lost] = failures.filter(({ error }) => isGone(error))
  if (lost) throw lost.error
  // Nothing is known of a node that says nothing: that is no answer to show.
  if (!answered && failures[0]) throw failures[0].error
  return {
    node: clean(client.name),
    atNs,
    realtimeNs,
    answers: answers as Snapshot['answers'],
    attributes,
    // No such attribute: the device has nothing of that kind.
    failures: failures.filter(({ error }) => error.code !== 'ERR_ACCEL_NOT_FOUND'),
  }
}

/** How long a node may take for an answer to a person or a script: a reset ends within it, a server that hangs does not. */
export const PATIENCE_MS = 10_000

/** Longer than the interval that a utilisation is told of (100 ms, `engines` of QUERY). */
const SETTLE_MS = 120

/** Begins an interval of utilisation, so that what is asked next is of this time, and not since somebody asked long ago. */
export async function settle(clients: readonly CommonNode[], { kinds }: Wanted): Promise<void> {
  if (![...kinds].includes('engines')) return
  // What fails here fails again where it is told.
  await Promise.allSettled(clients.map((client) => client.query('engines', 0, { timeoutMs: PATIENCE_MS })))
  await sleep(SETTLE_MS)
}

/** Whether an error says that this open is over. */
export const isGone = (error: unknown): error is AccelError =>
  isAccelError(error, 'ERR_ACCEL_NO_DEVICE') || isAccelError(error, 'ERR_ACCEL_CLOSED')

interface Page {
  readonly total: number
  readonly entries: readonly unknown[]
}

/** The answer of a kind, and of a list all entries. */
async function whole<K extends QueryKind>(
  client: CommonNode,
  kind: K,
  options: CallOptions,
): Promise<QueryOutput<K> | undefined> {
  const first = await client.query(kind, 0, options)
  if (!first || !('entries' in first)) return first
  const { total, entries } = first as Page
  const all = [...entries]
  while (all.length < total && all.length < MAX_ENTRIES) {
    const page = (await client.query(kind, all.length, options)) as Page | undefined
    if (!page || page.entries.length === 0) break
    all.push(...page.entries)
  }
  return { ...first, entries: all }
}

/** All attributes in a folder, or the one of that path. `ERR_ACCEL_NOT_FOUND` where there is none. */
export async function listAttributes(
  client: Pick<CommonNode, 'common'>,
  path: string,
  options: CallOptions = {},
): Promise<AttributeEntry[]> {
  const all: AttributeEntry[] = []
  while (all.length < MAX_ENTRIES) {
    const page = await client.common('attrList', { path, from: all.length }, options)
    all.push(...page.entries)
    if (page.entries.length === 0 || all.length >= page.total) break
  }
  return all
}

/** An attribute, and its value or why it has none. */
export interface TriedAttribute extends AttributeEntry {
  readonly value?: ShownAttribute
  readonly error?: AccelError
}

/** Attributes with their values; one that may not be read is not asked for. */
export async function attributesIn(
  client: Pick<CommonNode, 'common'>,
  path: string,
  options: CallOptions = {},
): Promise<TriedAttribute[]> {
  const entries = await listAttributes(client, path, options)
  return Promise.all(
    entries.map(async (entry) => {
      if ((entry.mode & 0o444) === 0) return entry
      try {
        return { ...entry, value: await client.common('attrShow', { path: entry.path }, options) }
      } catch (error) {
        if (!isAccelError(error) || error.code === 'ERR_ACCEL_ABORTED') throw error
        return { ...entry, error }
      }
    }),
  )
}
