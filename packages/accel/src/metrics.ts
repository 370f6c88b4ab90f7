import {
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  type commonUapi,
  errorCode,
  isAccelError,
  type QueryKind,
  type QueryOutput,
  queryOutput,
  queryRequest,
  type Uapi,
} from '@uaccel/uapi'
import { Counter, Gauge, Registry } from 'prom-client'
import { AccelClient } from './client.js'
import type { Accel } from './subsystem.js'

type CommonUapi = typeof commonUapi

/** One open of a node, in this process or another. */
export interface MetricsClient {
  /** `accel0` and so on. */
  readonly name: string
  common<K extends string & keyof CommandsOf<CommonUapi>>(
    name: K,
    input: CommandInput<CommonUapi, K>,
  ): Promise<CommandOutput<CommonUapi, K>>
}

/** Type for Prometheus' text format, for the header of an answer over HTTP. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE

/** The metrics of all devices of a subsystem, in Prometheus' text format. Each call opens and closes them. */
export async function metrics(accel: Accel): Promise<string> {
  const clients: AccelClient<Uapi>[] = []
  try {
    for (const node of accel.nodes) {
      if (node.state === 'live' || node.state === 'resetting')
        clients.push(new AccelClient(node, node.driver.uapi))
    }
    return await metricsOf(clients)
  } finally {
    await Promise.all(clients.map((client) => client.close()))
  }
}

/** The same of nodes that are open already. */
export async function metricsOf(clients: Iterable<MetricsClient>): Promise<string> {
  const sheet = new Sheet()
  await Promise.all([...clients].map((client) => collect(sheet, client)))
  return sheet.registry.metrics()
}

type Labels = Readonly<Record<string, string>>

/** Metrics of one collection, made as they come up. */
class Sheet {
  readonly registry = new Registry()
  readonly #metrics = new Map<string, Gauge | Counter>()

  gauge(name: string, help: string, labels: Labels, value: number): void {
    this.#metric(Gauge, name, help, labels).set(labels, value)
  }

  /** Something that only grows, as long as its source is the same. */
  counter(name: string, help: string, labels: Labels, value: number): void {
    this.#metric(Counter, name, help, labels).inc(labels, value)
  }

  #metric<M extends Gauge | Counter>(
    Kind: new (options: { name: string; help: string; labelNames: string[]; registers: Registry[] }) => M,
    name: string,
    help: string,
    labels: Labels,
  ): M {
    let metric = this.#metrics.get(name)
    if (!metric) {
      const labelNames = Object.keys(labels)
      metric = new Kind({ name: `uaccel_${name}`, help, labelNames, registers: [this.registry] })
      this.#metrics.set(name, metric)
    }
    return metric as M
  }
}

/** Where a name of an attribute of all devices has a metric of its own. */
const vectorPath = /^irqs\/([0-9]+)\/fired$/

async function collect(sheet: Sheet, client: MetricsClient): Promise<void> {
  const node = client.name
  const identity = await answered(query(client, 'identity'))
  sheet.gauge('up', 'Whether the node answers.', { node }, identity ? 1 : 0)
  if (!identity) return
  sheet.gauge(
    'device_info',
    'Which device it is.',
    {
      node,
      driver: identity.driver,
      transport: identity.transport,
      address: identity.address,
      name: identity.name,
      firmware: identity.firmware,
      emulated: identity.emulated,
      tainted: identity.tainted,
    },
    1,
  )
  const status = await answered(query(client, 'status'))
  if (status) {
    sheet.gauge('device_state', 'The state that the device is in.', { node, state: status.state }, 1)
    sheet.gauge('opens', 'Opens of the node, this one included.', { node }, status.opens)
  }
  await Promise.all([counters(sheet, client), engines(sheet, client), quantities(sheet, client)])
  await attributes(sheet, client)
}

async function counters(sheet: Sheet, client: MetricsClient): Promise<void> {
  const node = client.name
  const found = await answered(query(client, 'counters'))
  if (!found) return
  const count = (name: string, help: string, value: bigint) =>
    sheet.counter(name, help, { node }, Number(value))
  count('submissions_total', 'Commands of the driver, and jobs, that were submitted.', found.submissions)
  count('completions_total', 'Of those: what succeeded.', found.completions)
  count('drops_total', 'Of those: what failed before the driver saw it.', found.drops)
  count('refusals_total', 'Commands and jobs that were refused at once.', found.refusals)
  count('resets_total', 'Resets of the device.', found.resets)
  count('opens_total', 'Opens that there were.', found.opens)
  count('events_total', 'Events that there were.', found.events)
  for (const { error, count } of found.errors) {
    const labels = { node, code: errorCode(error) ?? `${error}` }
    sheet.counter('failures_total', 'What failed of what was submitted, by error.', labels, Number(count))
  }
}

async function engines(sheet: Sheet, client: MetricsClient): Promise<void> {
  const node = client.name
  for (const { name, known, busyNs, instances } of (await list(client, 'engines')) ?? []) {
    const labels = { node, engine: name }
    sheet.gauge('engine_instances', 'How many of an engine there are.', labels, instances)
    // A driver's counter may be cleared; Prometheus takes that for a restart.
    if (known.busy)
      sheet.counter('engine_busy_seconds_total', 'How long engines worked.', labels, Number(busyNs) / 1e9)
  }
}

async function quantities(sheet: Sheet, client: MetricsClient): Promise<void> {
  const node = client.name
  for (const { name, hz } of (await list(client, 'clocks')) ?? [])
    sheet.gauge('clock_hertz', 'The rate of a clock.', { node, clock: name }, Number(hz))
  for (const { name, kind, unit, exponent, value } of (await list(client, 'sensors')) ?? []) {
    const labels = { node, sensor: name, kind, unit }
    // Digits, not powers: 42500 thousandths are 42.5 exactly.
    sheet.gauge('sensor', 'A measured value, in its unit.', labels, Number(`${value}e${exponent}`))
  }
  for (const { name, kind, known, sizeBytes, usedBytes } of (await list(client, 'memoryRegions')) ?? []) {
    const labels = { node, region: name, kind }
    sheet.gauge('memory_bytes', 'Size of a region of device memory.', labels, Number(sizeBytes))
    if (known.used) sheet.gauge('memory_used_bytes', 'What of a region is in use.', labels, Number(usedBytes))
  }
  const power = await answered(query(client, 'power'))
  if (power?.known.drawn)
    sheet.gauge('power_watts', 'What the device draws.', { node }, Number(power.drawnMicrowatts) / 1e6)
  if (power?.known.energy) {
    const joules = Number(power.energyMicrojoules) / 1e6
    sheet.counter('energy_joules_total', 'What the device took.', { node }, joules)
  }
}

/** Interrupts, DMA, and the stable attributes of the driver that are numbers. */
async function attributes(sheet: Sheet, client: MetricsClient): Promise<void> {
  const node = client.name
  const all: CommandOutput<CommonUapi, 'attrList'>['entries'][number][] = []
  while (true) {
    const page = await answered(client.common('attrList', { path: '', from: all.length }))
    all.push(...(page?.entries ?? []))
    if (!page || page.entries.length === 0 || all.length >= page.total) break
  }
  for (const { path, type, scope, unit } of all) {
    if (type === 'text' || scope !== 'stable' || /^(counters|opens)\//.test(path)) continue
    // One that fails is absent; the others are told.
    const shown = await answered(client.common('attrShow', { path }))
    if (!shown) continue
    const value = Number(shown.value)
    const vector = vectorPath.exec(path)?.[1]
    if (vector !== undefined)
      sheet.counter('interrupts_total', 'Interrupts that the device fired.', { node, vector }, value)
    else if (path === 'dma/mappedBytes')
      sheet.gauge('dma_mapped_bytes', 'Memory that the device can reach.', { node }, value)
    else if (path === 'dma/mappings') sheet.gauge('dma_mappings', 'DMA mappings.', { node }, value)
    else if (!path.startsWith('irqs/'))
      sheet.gauge('attribute', "A value of the device's own.", { node, attribute: path, unit }, value)
  }
}

async function query<K extends QueryKind>(client: MetricsClient, kind: K, from = 0) {
  return queryOutput(kind, await client.common('query', queryRequest(kind, from)))
}

type ListKind = {
  [K in QueryKind]: QueryOutput<K> extends { readonly entries: readonly unknown[] } ? K : never
}[QueryKind]

/** All entries of a list kind; `undefined` where there is no such thing. */
async function list<K extends ListKind>(
  client: MetricsClient,
  kind: K,
): Promise<QueryOutput<K>['entries'] | undefined> {
  const all: unknown[] = []
  while (true) {
    const page = (await answered(query(client, kind, all.length))) as
      | { readonly total: number; readonly entries: readonly unknown[] }
      | undefined
    if (!page) return undefined
    all.push(...page.entries)
    if (page.entries.length === 0 || all.length >= page.total) return all as QueryOutput<K>['entries']
  }
}

/** What fails in a device is absent from its metrics, and keeps nothing else from being told. */
async function answered<T>(asking: Promise<T>): Promise<T | undefined> {
  try {
    return await asking
  } catch (error) {
    if (isAccelError(error)) return undefined
    throw error
  }
}
