import { DEFAULT_LIMITS, DEFAULT_QUOTAS, type NodeLimits, type Quotas } from '@uaccel/accel'
import { parseBdf } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { type ConnectionLimits, DEFAULT_CONNECTION_LIMITS } from './connection.js'
import {
  account,
  type Fields,
  integer,
  list,
  object,
  oneOf,
  parsed,
  type Rule,
  text,
  truth,
  type ValueOf,
} from './rules.js'

const MINUTE_MS = 60_000
const MAX_MS = 60 * MINUTE_MS

const mode = (standard: string) =>
  parsed(
    'three octal digits in quotes, such as "660"',
    'Permissions of the socket: who may write to it may open it.',
    /^0?[0-7]{3}$/,
    (found) => Number.parseInt(found, 8),
    standard,
  )
const owner = account('user', "Owner of the socket; the server's own user unless told.")
const group = account('group', "Group of the socket; the server's own unless told.")

/** How long a driver and its device may take: the limits of `Accel`. */
const timeouts = object('Limits for the driver and its device, in ms.', {
  probeMs: integer('For `probe`.', 1, MAX_MS, DEFAULT_LIMITS.probeMs),
  jobMs: integer('For a job, from when the driver got it.', 1, MAX_MS, DEFAULT_LIMITS.jobMs),
  recoverMs: integer(
    'For each of `recover`, `beforeReset`, `afterReset`.',
    1,
    MAX_MS,
    DEFAULT_LIMITS.recoverMs,
  ),
  settleMs: integer('For a handler to end once its call was withdrawn.', 1, MAX_MS, DEFAULT_LIMITS.settleMs),
  removeMs: integer(
    'For the device to be brought to rest and everything freed.',
    1,
    MAX_MS,
    DEFAULT_LIMITS.removeMs,
  ),
  requestMs: integer(
    'The same where the administrator waits for the device.',
    1,
    MAX_MS,
    DEFAULT_LIMITS.requestMs,
  ),
  attributeMs: integer(
    'For the driver to show or store an attribute.',
    1,
    MAX_MS,
    DEFAULT_LIMITS.attributeMs,
  ),
} satisfies Record<keyof NodeLimits, Rule<number>>)

const quotas = object('What clients may hold.', {
  openObjects: integer(
    'Buffers, fences and fence events of one open.',
    1,
    2 ** 24,
    DEFAULT_QUOTAS.openObjects,
  ),
  openBytes: integer('Their memory, in bytes.', 4096, 2 ** 48, DEFAULT_QUOTAS.openBytes),
  nodeObjects: integer('The same of all opens of a node together.', 1, 2 ** 24, DEFAULT_QUOTAS.nodeObjects),
  nodeBytes: integer('Their memory, in bytes.', 4096, 2 ** 48, DEFAULT_QUOTAS.nodeBytes),
  openJobs: integer('Jobs of one open that have not ended.', 1, 2 ** 16, DEFAULT_QUOTAS.openJobs),
  openWaits: integer('Calls of one open that wait at the same time.', 1, 2 ** 16, DEFAULT_QUOTAS.openWaits),
} satisfies Record<keyof Quotas, Rule<number>>)

const limits = object('What one connection may have under way.', {
  maxRequests: integer('Requests without an answer.', 1, 2 ** 16, DEFAULT_CONNECTION_LIMITS.maxRequests),
  maxPendingBytes: integer(
    'Bytes of those requests.',
    4096,
    2 ** 30,
    DEFAULT_CONNECTION_LIMITS.maxPendingBytes,
  ),
  maxFds: integer('Descriptors of those requests.', 1, 1024, DEFAULT_CONNECTION_LIMITS.maxFds),
  stallMs: integer(
    'How long a client may take to say hello, or to read an answer.',
    1,
    MAX_MS,
    DEFAULT_CONNECTION_LIMITS.stallMs,
  ),
} satisfies Record<keyof Omit<ConnectionLimits, 'maxMessageBytes'>, Rule<number>>)

const backOff = object('When a process that ended by itself is started again.', {
  baseMs: integer('Wait before the first attempt; doubled for each that follows.', 1, MAX_MS, 1_000),
  capMs: integer('The longest wait.', 1, MAX_MS, MINUTE_MS),
  resetMs: integer('A process that ran this long begins anew with `baseMs`.', 1, MAX_MS, MINUTE_MS),
  attempts: integer('Attempts in a row after which a node stays failed; 0 for no end.', 0, 1_000_000, 0),
})

/** What is set for a node: in `defaults` for all, in an entry of `devices` for its own. */
const nodeFields = {
  mode: mode('600'),
  owner,
  group,
  exclusive: truth('One open at a time.', false),
  maxOpens: integer(
    'Opens at one time. A quarter of them, at most 8, are for root and the user of the server alone.',
    1,
    65_536,
    256,
  ),
  maxUserOpens: integer(
    'Opens of one other user at one time; as many as others have unless told.',
    1,
    65_536,
  ),
  drainMs: integer(
    'How long requests under way may take when the node is stopped.',
    0,
    10 * MINUTE_MS,
    5_000,
  ),
  heartbeatMs: integer(
    'A process of a device that gives no sign of life for so long is killed and started anew.',
    1_000,
    MAX_MS,
    MINUTE_MS,
  ),
  iommu: oneOf("Which of the kernel's interfaces to the IOMMU.", ['auto', 'type1', 'iommufd'], 'auto'),
  allowNoIommu: truth('Take a device that no IOMMU isolates: it can reach all memory.', false),
  limits,
  quotas,
  timeouts,
  backOff,
} satisfies Fields

const pciAddress = parsed(
  'a PCI address in quotes, such as "0000:00:05.0"',
  'A PCI device by its address. It is bound to vfio-pci, now or later.',
  /./,
  (found) => {
    try {
      return parseBdf(found)
    } catch (error) {
      if (isAccelError(error)) return undefined
      throw error
    }
  },
)

const device = object('One device, or several.', {
  address: pciAddress,
  id: parsed(
    'vendor and device in quotes, such as "1234:11e8"',
    'All PCI devices with these ids: vendor and device, hexadecimal.',
    /^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$/,
    (found) => found.toLowerCase(),
  ),
  vfioUser: text('the path of a socket', 'A device that a vfio-user server offers there.', /^[^\0]{1,107}$/),
  model: text(
    'the name of a driver, or a module',
    "A device model in the node's process: the `./model` of that driver's package, or what this module exports, as `default` where it has several.",
    /./,
  ),
  driver: text(
    'one of `drivers`',
    'The driver, where it is not the one whose ids fit best. Without any of the above: all devices that it takes.',
    /./,
  ),
  number: integer('N of accelN. Otherwise a free one, which the same device gets again.', 0, 0xf_ffff),
  ...nodeFields,
})

/** The whole of a configuration. */
export const configRule = object('', {
  folder: text('an absolute path', 'Where the nodes are made.', /^\/[^\0]*$/),
  drivers: list(
    'Packages of drivers, or modules (`./driver.js`, from the folder of this file on). Each exports a driver as `default`.',
    text('the name of a package, or a path', '', /./),
    'those that come with the command',
  ),
  devices: list(
    'Which devices get a node: the first entry that names a device counts. An entry that names none is for all that the drivers take.',
    device,
    'all that the drivers take',
  ),
  defaults: object('What holds for every entry of `devices` that does not say otherwise.', nodeFields),
  control: object('The node `control`.', { mode: mode('666'), owner, group }),
  metrics: parsed(
    'address:port, or a path',
    'Where metrics are offered for Prometheus, over HTTP: `127.0.0.1:9464`, or the path of a Unix socket. Nowhere unless told.',
    /^(?:(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}|\/[^\0]{1,106})$/,
    (found) => (found.startsWith('/') || Number(/\d+$/.exec(found)?.[0]) <= 0xffff ? found : undefined),
  ),
})

/** A configuration as it is written. */
export type ConfigValue = NonNullable<ReturnType<typeof configRule.check>>
/** What an entry of `devices` says. */
export type DeviceValue = NonNullable<ReturnType<typeof device.check>>
/** What `defaults` says. */
export type NodeSettings = ValueOf<typeof nodeFields>

/** The reference of the configuration, in Markdown: docs/serve.md has it. */
export function configReference(): string {
  const lines = ['| key | what it is | wants | default |', '| --- | --- | --- | --- |']
  const add = (key: string, rule: Rule<unknown>) => {
    const cell = (words: string) => words.replaceAll('|', '\\|')
    lines.push(
      `| \`${key}\` | ${cell(rule.doc)} | ${cell(rule.wants)} | ${rule.standard === undefined ? '' : cell(rule.standard)} |`,
    )
    if (rule.items?.fields) fields(`${key}[]`, rule.items.fields)
    if (rule.fields) fields(key, rule.fields)
  }
  const fields = (prefix: string, all: Fields) => {
    for (const [name, rule] of Object.entries(all)) {
      // Described once, under `defaults`.
      if (prefix === 'devices[]' && Object.hasOwn(nodeFields, name)) continue
      add(prefix === '' ? name : `${prefix}.${name}`, rule)
    }
    if (prefix === 'devices[]') lines.push('| `devices[]...` | All that `defaults` has. | | `defaults` |')
  }
  fields('', configRule.fields!)
  return `${lines.join('\n')}\n`
}
