import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Transport } from '@uaccel/core'
import { Faults, type Loopback, loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import { Moments, type Witness } from './moments.js'
import type { AnyMatrix, FaultName } from './types.js'

/** A device that misfortunes can befall. */
export interface Peer {
  /** Makes the device, and a way to it. */
  connect(): Promise<Transport>
  /** From now on the fault strikes at the `index`-th moment, or moments are kept. */
  arm(fault: FaultName | undefined, index: number): Promise<void>
  /** Takes back what goes on. Answers what came to pass since it was armed; nothing of what a dead one saw. */
  lift(): Promise<Witness>
  /** What the device does not allow and the driver did since the last time. */
  violations(): Promise<readonly string[]>
  /** The device is of no more use. */
  end(): Promise<void>
}

export type PeerRequest =
  | { readonly ask: 'serve'; readonly path: string }
  | { readonly ask: 'arm'; readonly fault: FaultName | undefined; readonly index: number }
  | { readonly ask: 'lift' | 'violations' | 'end' }

/** The longest that a client waits for an answer of a silent peer: this blocks its thread. */
const ANSWER_MS = 600
const REPLY_MS = 10_000

/** The model in this process. */
export class LocalPeer implements Peer {
  readonly #matrix: AnyMatrix
  readonly #moments = new Moments()
  #device: Loopback | undefined

  constructor(matrix: AnyMatrix) {
    this.#matrix = matrix
  }

  async connect(): Promise<Transport> {
    const { definition, options } = this.#matrix
    const faults = new Faults()
    this.#moments.faults = faults
    this.#device = loopback(this.#moments.instrument(definition), {
      model: options.model?.() ?? {},
      faults,
      strict: false,
      mapped: options.mapped ?? false,
    })
    return this.#device
  }

  async arm(fault: FaultName | undefined, index: number): Promise<void> {
    this.#moments.arm(fault, index)
  }

  async lift(): Promise<Witness> {
    return this.#moments.lift()
  }

  async violations(): Promise<readonly string[]> {
    return this.#device?.violations.take().map(({ message }) => message) ?? []
  }

  async end(): Promise<void> {
    await this.#device?.close()
  }
}

const program = fileURLToPath(new URL('./peer.process.js', import.meta.url))

/** The model in a process of its own, behind vfio-user. It serves one device after the other, until it was killed. */
export class RemotePeer implements Peer {
  readonly #args: readonly string[]
  readonly #folder: string
  #child: ChildProcess | undefined
  #count = 0
  #fault: FaultName | undefined

  /** @param args The module of the matrix, and the name under which it exports it. */
  constructor(args: readonly string[], folder: string) {
    this.#args = args
    this.#folder = folder
  }

  /** Starts the process, unless it runs. */
  async start(): Promise<void> {
    if (this.#child !== undefined) return
    this.#child = fork(program, this.#args)
    await Promise.race([once(this.#child, 'message'), once(this.#child, 'exit')])
  }

  async connect(): Promise<Transport> {
    const path = join(this.#folder, `${process.pid}-${this.#count++}.sock`)
    await this.#ask({ ask: 'serve', path })
    return connectVfioUser(path, { timeoutMs: ANSWER_MS })
  }

  async arm(fault: FaultName | undefined, index: number): Promise<void> {
    this.#fault = fault
    const child = this.#child!
    // What strikes at once is not to wait for an answer.
    if (index === 0 && fault === 'peerKilled') {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    } else if (index === 0 && fault === 'peerSilent') {
      child.kill('SIGSTOP')
      while (!isStopped(child)) await new Promise((resolve) => setImmediate(resolve))
    } else await this.#ask({ ask: 'arm', fault, index })
  }

  async lift(): Promise<Witness> {
    const child = this.#child!
    const dead = child.exitCode !== null || child.signalCode !== null
    if (dead || this.#fault === 'peerKilled') {
      // Its end may not have been noticed yet; what has not come to pass by now will not.
      const struck =
        dead ||
        !(await this.#ask({ ask: 'lift' }).then(
          () => true,
          () => false,
        ))
      if (struck) this.#child = undefined
      return { struck, kept: [], last: [] }
    }
    const stopped = this.#fault === 'peerSilent' && isStopped(child)
    if (stopped) child.kill('SIGCONT')
    const witness = (await this.#ask({ ask: 'lift' })) as Witness
    return { ...witness, struck: stopped || witness.struck }
  }

  async violations(): Promise<readonly string[]> {
    return this.#child === undefined ? [] : ((await this.#ask({ ask: 'violations' })) as string[])
  }

  async end(): Promise<void> {
    if (this.#child !== undefined) await this.#ask({ ask: 'end' })
  }

  async #ask(request: PeerRequest): Promise<unknown> {
    const child = this.#child!
    const expired = new AbortController()
    const { signal } = expired
    const answer = once(child, 'message', { signal })
    const gone = once(child, 'exit', { signal })
    const silent = new Promise((_resolve, reject) => {
      const late = () =>
        reject(accelError('ERR_ACCEL_TIMEOUT', `The model's process did not answer "${request.ask}"`))
      const timer = setTimeout(late, REPLY_MS)
      signal.addEventListener('abort', () => clearTimeout(timer))
    })
    try {
      child.send(request)
      const exited = gone.then(() => {
        throw accelError('ERR_ACCEL_CLOSED', `The model's process ended before it answered "${request.ask}"`)
      })
      const [reply] = (await Promise.race([answer, exited, silent])) as [unknown]
      return reply
    } finally {
      for (const each of [answer, gone, silent]) each.catch(() => {})
      expired.abort()
    }
  }
}

function isStopped({ pid }: ChildProcess): boolean {
  try {
    // The state follows the command in parentheses (proc(5)).
    return /\) [Tt] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
