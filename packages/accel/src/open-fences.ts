import { EventFd, sys } from '@uaccel/sys'
import { accelError, type CommandRequest, type commonUapi, type Handle } from '@uaccel/uapi'
import { waitUntil } from './deadline.js'
import { type Point, Timeline } from './fence.js'
import type { Handles } from './handles.js'
import type { Account } from './quota.js'

type Request<K extends keyof typeof commonUapi.commands> = CommandRequest<typeof commonUapi, K>

/** A fence that a client asked to be told of by eventfd. */
interface FenceEvent {
  end(): void
}

/** The fences of one open: a method for each command, which refuses what is not this open's. */
export class OpenFences {
  readonly #handles: Handles<object>
  readonly #account: Account
  readonly #events = new Set<FenceEvent>()
  /** What takes a fence off the account. */
  readonly #fences = new Map<Timeline, () => void>()

  constructor(handles: Handles<object>, account: Account) {
    this.#handles = handles
    this.#account = account
  }

  get(handle: number): Timeline {
    return this.#handles.get(handle, Timeline, 'fence')
  }

  /** Gives all of them back: who waits is told. Idempotent. */
  free(): void {
    for (const event of [...this.#events]) event.end()
    for (const fence of [...this.#fences.keys()]) this.#release(fence)
  }

  async wait(
    { points: wanted, deadlineNs, flags: { any, forSubmit } }: Request<'wait'>,
    signal: AbortSignal,
  ) {
    if (wanted.length === 0) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'A wait wants at least one point')
    }
    const points = wanted.map((point) =>
      forSubmit ? { fence: this.get(point.fence), value: point.value } : this.promised(point),
    )
    const what = `${any ? 'One' : 'All'} of ${points.length} points of fences`
    await waitUntil(what, { deadlineNs, signal }, (done) => {
      let left = any ? 1 : points.length
      const forgets = points.map(({ fence, value }) =>
        fence.watch(value, () => {
          if (--left === 0) done()
        }),
      )
      return () => {
        for (const forget of forgets) forget()
      }
    })
    // Of a fence that was destroyed a wait ends, too.
    const index = any
      ? Math.max(
          0,
          points.findIndex(({ fence, value }) => value <= fence.value),
        )
      : 0
    for (const { fence, value } of any ? [points[index]!] : points) {
      const failure = fence.failure(value)
      if (failure) throw failure
      if (value <= fence.value) continue
      throw accelError('ERR_ACCEL_CLOSED', `A fence was destroyed before a job promised ${value}`)
    }
    return { index }
  }

  create({ initialValue }: Request<'fenceCreate'>) {
    const giveBack = this.#account.take('A fence')
    const fence = new Timeline(initialValue)
    this.#fences.set(fence, giveBack)
    return { handle: this.#handles.add(fence) as Handle<'fence'> }
  }

  event({ handle, value }: Request<'fenceEvent'>) {
    const fence = this.get(handle)
    const giveBack = this.#account.take('A fence event')
    let event: EventFd | undefined
    let fd: number
    try {
      // As one that others have too: the client can make it blocking, or full, for us as well.
      event = new EventFd(sys, sys.eventfd(0))
      fd = sys.dup(event.fd)
    } catch (error) {
      event?.close()
      giveBack()
      throw error
    }
    const eventFd = event
    let forget = () => {}
    const entry: FenceEvent = {
      end: () => {
        this.#events.delete(entry)
        forget()
        eventFd.signal()
        eventFd.close()
        giveBack()
      },
    }
    this.#events.add(entry)
    forget = fence.watch(value, entry.end)
    return { fd }
  }

  destroy({ handle }: Request<'fenceDestroy'>) {
    const fence = this.get(handle)
    this.#handles.delete(handle)
    this.#release(fence)
    return {}
  }

  /** A point that is reached, or that a job will reach: so no chain of jobs can ever wait in a circle. */
  promised({ fence: handle, value }: { readonly fence: number; readonly value: bigint }): Point {
    const fence = this.get(handle)
    if (value <= fence.promised) return { fence, value }
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${value} of fence ${handle} was waited for, and jobs promise ${fence.promised} at most: submit the job first`,
    )
  }

  #release(fence: Timeline): void {
    fence.close()
    this.#fences.get(fence)?.()
    this.#fences.delete(fence)
  }
}
