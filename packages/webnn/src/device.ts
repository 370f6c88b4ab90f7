import { type NodeClient, nodeNames, type OpenOptions, openAccel } from '@uaccel/client'
import { type AccelError, accelError, commonUapi, isAccelError, type Uapi } from '@uaccel/uapi'
import type { Accelerator } from './accelerator.js'

/** What a driver's package gives, so that a node of the driver takes part in graphs by its name. */
export interface AcceleratorDriver<U extends Uapi = Uapi> {
  /** What the driver's nodes speak. */
  readonly uapi: U
  /**
   * Makes the accelerator of a node that was opened. It has the node from then on, and closes it at its own `close`; where this fails,
   * its caller closes the node.
   *
   * @throws ERR_ACCEL_UNSUPPORTED the device is of a version that cannot take part
   */
  open(node: NodeClient<U>): Promise<Accelerator>
}

/**
 * Drivers whose package has an accelerator, by their name in INFO: the package is above this one, and is loaded when a node of the driver is
 * opened. Its `accelerator` is an {@link AcceleratorDriver}.
 */
const modules: Readonly<Record<string, string>> = {
  npu: '@uaccel/driver-npu/webnn',
}

const registered = new Map<string, AcceleratorDriver>()

/**
 * Lets nodes of a driver take part in graphs: `driver` is its name in INFO, as `uaccel info` shows it. The last one of a name counts, and
 * goes before those that uaccel has itself.
 */
export function registerAccelerator<U extends Uapi>(driver: string, accelerator: AcceleratorDriver<U>): void {
  registered.set(driver, accelerator as unknown as AcceleratorDriver)
}

async function driverOf(name: string, node: string): Promise<AcceleratorDriver> {
  const found = registered.get(name)
  if (found !== undefined) return found
  const specifier = modules[name]
  if (specifier === undefined) {
    const known = [...new Set([...registered.keys(), ...Object.keys(modules)])].join(', ')
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${node} is driven by ${name}, which has no accelerator for graphs; there are those of ${known}. registerAccelerator adds one`,
    )
  }
  const cannot = (why: string, cause?: unknown) =>
    accelError(
      'ERR_ACCEL_NO_DRIVER',
      `${node} is driven by ${name}: its accelerator is in ${specifier}, ${why}`,
      cause === undefined ? {} : { cause },
    )
  let module: { accelerator?: AcceleratorDriver }
  try {
    module = (await import(specifier)) as typeof module
  } catch (cause) {
    throw cannot(`which cannot be loaded; is it installed here? ${(cause as Error).message}`, cause)
  }
  if (module.accelerator === undefined) throw cannot('which exports no accelerator: it is of another version')
  return module.accelerator
}

async function openNode(node: string, options: OpenOptions): Promise<Accelerator> {
  const asked = await openAccel(commonUapi, node, options)
  let name: string
  try {
    name = (await asked.common('info', {}, options)).driver
  } finally {
    await asked.close()
  }
  const driver = await driverOf(name, node)
  const client = await openAccel(driver.uapi, node, options)
  try {
    return await driver.open(client)
  } catch (error) {
    await client.close()
    throw error
  }
}

/** An accelerator of this process, for all contexts on its node: a node may be for one open at a time. */
interface Shared {
  readonly opening: Promise<Accelerator>
  users: number
}

const shared = new Map<string, Shared>()
/** Those that are being closed: the node is opened anew afterwards. */
const closing = new Map<string, Promise<void>>()

/**
 * Opens a node for graphs: `accel0`, or the path of its socket. Those that this process has opened already are shared, and closed when the last
 * of their users has closed.
 *
 * @throws ERR_ACCEL_NOT_FOUND no such node, or nobody serves it
 * @throws ERR_ACCEL_UNSUPPORTED its driver has no accelerator
 * @throws ERR_ACCEL_NO_DRIVER the package with its accelerator is not installed, or is of another version
 * @throws what `openAccel` of `@uaccel/client` and `AcceleratorDriver.open` throw
 */
export async function openAccelerator(node: string, options: OpenOptions = {}): Promise<Accelerator> {
  const key = JSON.stringify([options.folder, node])
  for (let under = closing.get(key); under !== undefined; under = closing.get(key)) await under
  let entry = shared.get(key)
  if (entry === undefined) {
    const made: Shared = { opening: openNode(node, options), users: 0 }
    shared.set(key, made)
    const forget = () => shared.get(key) === made && shared.delete(key)
    made.opening.then(({ lost }) => lost.then(forget), forget)
    entry = made
  }
  entry.users++
  return userOf(key, entry, await entry.opening)
}

/** The accelerator for one of its users. */
function userOf(key: string, entry: Shared, accelerator: Accelerator): Accelerator {
  let closed: Promise<void> | undefined
  const leave = async (): Promise<void> => {
    if (--entry.users > 0) return
    if (shared.get(key) === entry) shared.delete(key)
    const ending = accelerator.close().finally(() => closing.delete(key))
    closing.set(
      key,
      ending.catch(() => {}),
    )
    await ending
  }
  return {
    name: accelerator.name,
    operators: accelerator.operators,
    follows: (group, next) => accelerator.follows?.(group, next) ?? false,
    allocate: (sizeBytes) => accelerator.allocate(sizeBytes),
    prepare: (commands, memories) => accelerator.prepare(commands, memories),
    polling: accelerator.polling,
    lost: accelerator.lost,
    close() {
      closed ??= leave()
      return closed
    },
  }
}

/**
 * The first node whose driver has an accelerator, in the order in which nodes are looked for.
 *
 * @throws ERR_ACCEL_NOT_FOUND there is none; the message says of each node why not
 */
export async function findAccelerator(options: OpenOptions = {}): Promise<Accelerator> {
  const reasons: AccelError[] = []
  for (const node of nodeNames(options.folder)) {
    try {
      return await openAccelerator(node, options)
    } catch (error) {
      if (!isAccelError(error)) throw error
      reasons.push(error)
    }
  }
  const why = reasons.map(({ message }) => `\n  ${message}`).join('')
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `No node of an accelerator for graphs is there${why === '' ? ': is a server running?' : `:${why}`}`,
    { cause: reasons[0] },
  )
}
