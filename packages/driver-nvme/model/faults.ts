/** A command as the model got it. */
export interface ReceivedCommand {
  readonly queue: number
  readonly opcode: number
  readonly cid: number
  readonly nsid: number
}

/** Which commands a fault is for; all of I/O queues where nothing is said. */
export interface FaultFilter {
  readonly queue?: number
  readonly opcode?: number
  /** How many of them it hits. Default 1. */
  readonly count?: number
}

/** What happens to a command in place of its work. */
export type Fate = { readonly status: number } | 'lost' | 'stuck' | 'wrongCid' | 'wrongHead'

interface Fault {
  readonly filter: FaultFilter
  readonly fate: Fate
  left: number
}

/** Misfortunes of the NVMe model besides those of every device: to be switched on while it runs. */
export class NvmeFaults {
  readonly #faults: Fault[] = []
  /** Set by the model. @internal */
  onFatal: () => void = () => {}
  /** Set by the model. @internal */
  onEvent: (result: number) => void = () => {}
  /** Commands that the model got, by opcode, admin commands with 0x100 more. */
  readonly received = new Map<number, number>()
  /** Writes of the registers of submission doorbells. */
  doorbells = 0

  /** Ends commands with a status field (15 bits: code, type << 8, do-not-retry << 14). */
  status(status: number, filter: FaultFilter = {}): void {
    this.#add({ status }, filter)
  }

  /** Commands are done, and their completions never come; an abort does not find them. */
  lose(filter: FaultFilter = {}): void {
    this.#add('lost', filter)
  }

  /** Commands are not done until they are aborted. */
  stick(filter: FaultFilter = {}): void {
    this.#add('stuck', filter)
  }

  /** Completions name a command that is not under way. */
  wrongCid(filter: FaultFilter = {}): void {
    this.#add('wrongCid', filter)
  }

  /** Completions say that the controller took entries that nobody wrote. */
  wrongHead(filter: FaultFilter = {}): void {
    this.#add('wrongHead', filter)
  }

  /** The controller fails: CSTS.CFS. */
  fatal(): void {
    this.onFatal()
  }

  /** An asynchronous event: DW0 of its completion. */
  event(result: number): void {
    this.onEvent(result)
  }

  /** What becomes of a command. For the model. */
  fateOf(command: ReceivedCommand): Fate | undefined {
    const found = this.#faults.find(
      ({ filter, left }) =>
        left > 0 &&
        (filter.queue === undefined ? command.queue !== 0 : filter.queue === command.queue) &&
        (filter.opcode === undefined || filter.opcode === command.opcode),
    )
    if (found) found.left--
    return found?.fate
  }

  #add(fate: Fate, filter: FaultFilter): void {
    this.#faults.push({ filter, fate, left: filter.count ?? 1 })
  }
}
