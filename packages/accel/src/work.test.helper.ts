import { readdirSync, readFileSync } from 'node:fs'
import {
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  cmd,
  commonUapi,
  type Handle,
  isAccelError,
  u32,
  uapi,
} from '@uaccel/uapi'
import { Accel, type AccelClient, type AccelOptions, accelDriver, type Job } from './index.js'
import { MemoryTransport } from './memory-transport.test.helper.js'

export const toyUapi = uapi({
  name: 'toy',
  version: 1,
  commands: { nothing: cmd(0x40, { in: { id: u32 } }) },
})

/** A job that the driver has got, and whose end the test decides. */
export interface Taken extends Job {
  readonly open: number
  readonly signal: AbortSignal
  finish(): void
  fail(error: unknown): void
}

/** A driver that keeps the jobs that it gets for the test to end. */
export async function toy(
  t: { teardown(end: () => Promise<void>): void },
  { depth = 1, ...options }: AccelOptions & { depth?: number } = {},
) {
  const accel = new Accel({
    quotas: { openObjects: 16, openBytes: 1 << 20, nodeObjects: 40, nodeBytes: 3 << 20, openJobs: 8 },
    ...options,
    limits: { settleMs: 60, recoverMs: 200, jobMs: 20_000, ...options.limits },
  })
  const taken: Taken[] = []
  const log: string[] = []
  let recover = (): Promise<void> | void => {}
  let probe = (): Promise<void> | void => {}
  accel.on('error', ({ message }) => log.push(message))
  accel.register(
    accelDriver({
      name: 'toy',
      uapi: toyUapi,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      async probe(dev) {
        void dev.dma.mappings
        log.push('probe')
        await probe()
        return {
          commands: { nothing: () => undefined },
          depth,
          submit: (job, { open, signal }) =>
            new Promise<void>((finish, fail) => {
              taken.push({ ...job, open: open.id, signal, finish, fail })
            }),
          recover: () => {
            log.push('recover')
            return recover()
          },
        }
      },
    }),
  )
  const transport = new MemoryTransport()
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  return {
    accel,
    node,
    transport,
    taken,
    log,
    open: () => accel.open(toyUapi, 'accel0'),
    onProbe: (act: typeof probe) => {
      probe = act
    },
    onRecover: (act: typeof recover) => {
      recover = act
    },
  }
}

type Common = typeof commonUapi
type Client = Pick<AccelClient<typeof toyUapi>, 'dispatch'>

/** Calls a common command in its binary form. */
export async function send<K extends string & keyof CommandsOf<Common>>(
  client: Client,
  name: K,
  input: CommandInput<Common, K>,
): Promise<CommandOutput<Common, K>> {
  const command = commonUapi.byName(name)
  const given: number[] = []
  const { bytes, fds } = await client.dispatch(command.number, command.in.encode(input, given), {
    fds: given,
  })
  return command.out.decode(bytes, [...fds]) as CommandOutput<Common, K>
}

export const bo = (handle: number) => handle as Handle<'bo'>
export const fence = (handle: number) => handle as Handle<'fence'>

export async function createBo(client: Client, sizeBytes = 4096) {
  const answer = await send(client, 'boCreate', { sizeBytes: BigInt(sizeBytes), flags: {} })
  return answer.handle
}

type Access = 'read' | 'write' | 'readwrite'

/** A job over whole pages of buffers, with its fences as [handle, value]. */
export function jobOf(
  buffers: readonly (readonly [handle: number, access?: Access])[] = [],
  waits: readonly (readonly [handle: number, value: number])[] = [],
  signal: readonly [handle: number, value: number] = [0, 0],
  payload = new Uint8Array(),
): CommandInput<Common, 'submit'> {
  return {
    buffers: buffers.map(([handle, access = 'readwrite']) => ({
      handle: bo(handle),
      access,
      offset: 0n,
      sizeBytes: 4096n,
    })),
    waits: waits.map(([handle, value]) => ({ fence: fence(handle), value: BigInt(value) })),
    signal: { fence: fence(signal[0]), value: BigInt(signal[1]) },
    flags: {},
    payload,
  }
}

/** A deadline so many milliseconds from now. */
export const inMs = (ms: number) => process.hrtime.bigint() + BigInt(Math.round(ms * 1e6))

export const waitFor = (
  client: Client,
  points: readonly (readonly [handle: number, value: number])[],
  { ms = 20_000, ...flags }: { ms?: number; any?: boolean; forSubmit?: boolean } = {},
) =>
  send(client, 'wait', {
    points: points.map(([handle, value]) => ({ fence: fence(handle), value: BigInt(value) })),
    deadlineNs: inMs(ms),
    flags,
  })

/** The code that a call is refused with. */
export const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'accepted',
    (error) => (isAccelError(error) ? error.code : String(error)),
  )

/** What this process holds, as the kernel sees it. */
export const held = () => ({
  fds: readdirSync('/proc/self/fd').length,
  buffers: readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('uaccel-bo')).length,
})

/** Lets what is due in this turn of the event loop happen. */
export const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
