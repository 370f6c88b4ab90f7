import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import type { AccelOptions } from '@uaccel/accel'
import type { ServeNodeOptions } from '@uaccel/server'
import { abi, closeAll, sys } from '@uaccel/sys'
import { contractUapi } from '@uaccel/testkit'
import {
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  commonUapi,
  decodeError,
  type ErrorCode,
  errorCode,
  HEADER_BYTES,
  MessageKind,
  nodeProtocol,
  PROTOCOL_VERSION,
  spoken,
  type Uapi,
} from '@uaccel/uapi'
import type { Test } from 'tap'
import { asNobody } from './unprivileged.js'

/** A folder for sockets, for as long as a test runs. */
export function nodeFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-nodes-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Starts a program beside this file, as the user nobody or with as many descriptors as told, and waits for its first word. */
export async function startProcess(
  t: Test,
  file: string,
  args: readonly string[],
  { maxFiles, nobody = false }: { readonly maxFiles?: number | undefined; readonly nobody?: boolean } = {},
): Promise<{ process: ChildProcess; said: Record<string, unknown> }> {
  const node = [globalThis.process.execPath]
  // Node raises its soft limit to the hard one, so both are set.
  const limited =
    maxFiles === undefined ? node : ['sh', '-c', `ulimit -n ${maxFiles}; exec "$0" "$@"`, ...node]
  const [execPath, ...execArgv] = nobody ? asNobody(limited) : limited
  const process = fork(fileURLToPath(new URL(file, import.meta.url)), [...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    execPath: execPath!,
    execArgv,
  })
  t.teardown(() => process.kill('SIGKILL'))
  const ended = once(process, 'exit').then(([code]) => {
    throw new Error(`${file} ${args[0]} ended with ${code} before it said anything`)
  })
  const [said] = await Promise.race([once(process, 'message'), ended])
  return { process, said }
}

export const startServer = (
  t: Test,
  devices: string,
  options: Pick<ServeNodeOptions, 'folder' | 'exclusive' | 'maxOpens' | 'limits'> &
    Pick<AccelOptions, 'quotas'>,
  maxFiles?: number,
) => startProcess(t, './nodes.server.js', [devices, JSON.stringify(options)], { maxFiles })

/** What another process holds, as the kernel counts it: descriptors by what they are of, and shared memory that is mapped. */
export function held(pid: number): { fds: number; kinds: Record<string, number>; maps: number } {
  const kinds: Record<string, number> = {}
  let fds = 0
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const kind = readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\d+/g, 'N')
      kinds[kind] = (kinds[kind] ?? 0) + 1
      fds++
    } catch {
      // closed since
    }
  }
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd')).length
  return { fds, kinds: Object.fromEntries(Object.entries(kinds).sort()), maps }
}

/** Waits until `check` holds; false where it never does. */
export async function eventually(
  check: () => boolean | Promise<boolean>,
  limitMs = 20_000,
): Promise<boolean> {
  for (const start = performance.now(); performance.now() - start < limitMs; await sleep(5)) {
    if (await check()) return true
  }
  return false
}

/**
 * What a process holds once that stays the same for half a second: a server answers before it has closed the descriptor that it
 * sent, and frees what a client held after the next one has been served.
 */
export async function settled(pid: number): Promise<ReturnType<typeof held>> {
  let last = held(pid)
  let since = performance.now()
  const unchanged = () => {
    const now = held(pid)
    if (!isDeepStrictEqual(now, last)) {
      last = now
      since = performance.now()
    }
    return performance.now() - since >= 500
  }
  if (!(await eventually(unchanged))) throw new Error(`what process ${pid} holds changes without end`)
  return last
}

/** A message as it came. */
export interface RawMessage {
  readonly id: number
  readonly kind: number
  readonly code: number
  readonly payload: Buffer
  readonly fds: readonly number[]
}

export interface RawHeader {
  length?: number
  id?: number
  kind?: number
  fdCount?: number
  code?: number
  timeoutMs?: number
  reserved?: number
}

/** A message with whatever header. */
export function rawMessage(header: RawHeader, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length)
  bytes.writeUInt32LE(header.length ?? bytes.length, 0)
  bytes.writeUInt32LE(header.id ?? 0, 4)
  bytes.writeUInt16LE(header.kind ?? MessageKind.REQUEST, 8)
  bytes.writeUInt16LE(header.fdCount ?? 0, 10)
  bytes.writeUInt32LE(header.code ?? 0, 12)
  bytes.writeUInt32LE(header.timeoutMs ?? 0, 16)
  bytes.writeUInt32LE(header.reserved ?? 0, 20)
  bytes.set(payload, HEADER_BYTES)
  return bytes
}

type Common = typeof commonUapi
type HelloInput = Parameters<typeof nodeProtocol.commands.hello.in.encode>[0]

export function helloPayload(changes: Partial<HelloInput> = {}, uapi: Uapi = contractUapi): Uint8Array {
  return nodeProtocol.commands.hello.in.encode({
    protocol: PROTOCOL_VERSION,
    ...spoken(uapi),
    commonVersion: commonUapi.version,
    ...changes,
  })
}

/** A client that says anything, and blocks until it is answered: for servers in other processes. */
export class RawClient {
  readonly fd: number
  #in = Buffer.alloc(0)
  #fds: number[] = []
  #calls = 0

  constructor(path: string) {
    this.fd = sys.connectUnix(path)
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    for (let sent = 0; sent < bytes.length; ) {
      sent += sys.sendmsg(this.fd, [bytes.subarray(sent)], sent === 0 ? fds : []) ?? 0
    }
  }

  /** The next message; undefined at the end of the stream. */
  receive(limitMs = 10_000): RawMessage | undefined {
    for (;;) {
      const size = this.#in.length >= HEADER_BYTES ? this.#in.readUInt32LE(0) : Number.POSITIVE_INFINITY
      if (this.#in.length >= size) {
        const message = this.#in.subarray(0, size)
        this.#in = this.#in.subarray(size)
        return {
          id: message.readUInt32LE(4),
          kind: message.readUInt16LE(8),
          code: message.readUInt32LE(12),
          payload: message.subarray(HEADER_BYTES),
          fds: this.#fds.splice(0, message.readUInt16LE(10)),
        }
      }
      if (!sys.poll([{ fd: this.fd, events: abi.POLLIN }], limitMs)) throw new Error('no answer')
      const buffer = Buffer.alloc(1 << 16)
      try {
        const received = sys.recvmsg(this.fd, buffer, abi.SCM_MAX_FD)!
        if (received.bytes === 0) return undefined
        this.#fds.push(...received.fds)
        this.#in = Buffer.concat([this.#in, buffer.subarray(0, received.bytes)])
      } catch (error) {
        if ((error as { code?: string }).code === 'ERR_ACCEL_CLOSED') return undefined
        throw error
      }
    }
  }

  ask(header: RawHeader, payload?: Uint8Array, fds: readonly number[] = []): RawMessage | undefined {
    this.send(rawMessage({ fdCount: fds.length, ...header }, payload), fds)
    return this.receive()
  }

  /** Calls one of the commands that every device answers. Throws what it is refused with. */
  common<K extends string & keyof CommandsOf<Common>>(
    name: K,
    input: CommandInput<Common, K>,
  ): CommandOutput<Common, K> {
    const command = commonUapi.byName(name)
    const fds: number[] = []
    const payload = command.in.encode(input, fds)
    const answer = this.ask({ id: ++this.#calls, code: command.number }, payload, fds)
    if (answer === undefined) throw new Error(`no answer to ${name}`)
    if (answer.code !== 0) throw decodeError(answer.code, answer.payload)
    return command.out.decode(answer.payload, [...answer.fds]) as CommandOutput<Common, K>
  }

  /** Says hello properly. Throws what it is refused with. */
  hello(uapi?: Uapi): this {
    const answer = this.ask({ kind: MessageKind.HELLO }, helloPayload({}, uapi))
    if (answer === undefined) throw new Error('no answer to the hello')
    if (answer.code !== 0) throw decodeError(answer.code, answer.payload)
    return this
  }

  /** Closes it when the server has freed all that was its, and closed its own end. */
  leave(): void {
    sys.shutdown(this.fd, abi.SHUT_WR)
    while (this.receive()) {}
    this.close()
  }

  close(): void {
    closeAll(this.#fds.splice(0))
    sys.close(this.fd)
  }
}

/** The error in an answer. */
export function describe({ code, payload }: RawMessage): {
  code: ErrorCode | 'none'
  message: string
  details: unknown
} {
  if (code === 0) return { code: 'none', message: '', details: undefined }
  const { message, details } = decodeError(code, payload)
  return { code: errorCode(code)!, message, details }
}
