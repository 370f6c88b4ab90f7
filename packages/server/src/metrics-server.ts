import { createServer, type Server } from 'node:http'
import { basename, dirname } from 'node:path'
import { METRICS_CONTENT_TYPE } from '@uaccel/accel/metrics'
import { systemError } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { removeDead } from './place.js'

/** Where metrics are offered unless told. 9464 is the port of OpenTelemetry's exporter for Prometheus. */
export const DEFAULT_METRICS_ADDRESS = '127.0.0.1:9464'

/** Connections at one time: exporters are few, and those who hold one for nothing leave the supervisor its descriptors. */
const MAX_CONNECTIONS = 64
/** How long a request may take to arrive, and an answer to be read; then others get the place. */
const IDLE_MS = 10_000

/** Metrics over HTTP, until it is closed. */
export interface MetricsServer {
  /** `127.0.0.1:9464`, or a path. */
  readonly address: string
  close(): Promise<void>
}

/**
 * Offers what `collect` gives at `/metrics`, over HTTP at `address:port` or on a Unix socket.
 *
 * @throws ERR_ACCEL_BUSY, ERR_ACCEL_PERMISSION and others of the system
 */
export async function serveMetrics(address: string, collect: () => Promise<string>): Promise<MetricsServer> {
  // Who asks while an answer is being collected gets the same one.
  let collecting: Promise<string> | undefined
  const collected = () => {
    collecting ??= collect().finally(() => {
      collecting = undefined
    })
    return collecting
  }
  const limits = {
    headersTimeout: IDLE_MS,
    requestTimeout: IDLE_MS,
    connectionsCheckingInterval: IDLE_MS / 4,
  }
  const server = createServer(limits, (request, response) => {
    const answer = (code: number, text: string, headers: Readonly<Record<string, string>> = {}) =>
      response.writeHead(code, headers).end(request.method === 'HEAD' ? undefined : text)
    if (request.url !== '/metrics') return void answer(404, 'Metrics are at /metrics\n')
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return void answer(405, 'GET or HEAD\n', { allow: 'GET, HEAD' })
    collected().then(
      (text) => answer(200, text, { 'content-type': METRICS_CONTENT_TYPE }),
      (error: unknown) => answer(500, `${String(error)}\n`),
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  server.setTimeout(IDLE_MS)
  const path = address.startsWith('/')
  if (path) await removeDead(dirname(address), basename(address))
  const [, host, port] = /^(.*):(\d+)$/.exec(address) ?? []
  if (!path && (port === undefined || Number(port) > 65_535))
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `"${address}" is no address for metrics: wanted address:port or a path`,
    )
  await listen(
    server,
    path ? { path: address } : { host: host!.replace(/^\[|\]$/g, ''), port: Number(port) },
    address,
  )
  const bound = server.address()
  return {
    // Port 0 is one that the system chooses.
    address: typeof bound === 'object' && bound !== null ? `${host}:${bound.port}` : address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, where: { path: string } | { host: string; port: number }, address: string) {
  return new Promise<void>((resolve, reject) => {
    server.once('error', ({ errno, message }: NodeJS.ErrnoException) =>
      reject(
        errno === undefined
          ? accelError('ERR_ACCEL_SYSTEM', `Metrics at ${address}: ${message}`)
          : systemError('listen', errno, `metrics at ${address}`),
      ),
    )
    server.listen(where, resolve)
  })
}

/** Several texts in Prometheus' format as one: what is of one metric stands together, with one explanation. */
export function mergeMetrics(texts: Iterable<string>): string {
  const families = new Map<string, { head: string[]; samples: string[] }>()
  for (const text of texts) {
    let family: { head: string[]; samples: string[] } | undefined
    let first = false
    for (const line of text.split('\n')) {
      const name = /^# HELP (\S+)/.exec(line)?.[1]
      if (name !== undefined) {
        family = families.get(name)
        first = family === undefined
        if (!family) {
          family = { head: [], samples: [] }
          families.set(name, family)
        }
      }
      if (line.startsWith('#')) {
        if (first) family?.head.push(line)
      } else if (line !== '') family?.samples.push(line)
    }
  }
  return [...families.values()].map(({ head, samples }) => `${[...head, ...samples].join('\n')}\n`).join('')
}
