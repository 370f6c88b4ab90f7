import {
  type CellRequest,
  type FaultName,
  type FaultRunOptions,
  type FaultTransport,
  faultNames,
  type Moment,
} from './types.js'

const DEFAULT_MOMENTS = 8
/** Moments at which a fault makes a difference, where these are not all. */
const kinds: Partial<Record<FaultName, Moment['kind']>> = { lostInterrupt: 'interrupt', dmaError: 'dma' }
const before = { index: 0, what: 'before' } as const

const ofPeer = (fault: FaultName) => fault === 'peerKilled' || fault === 'peerSilent'

/** Where a fault is tried. */
export function transportsOf(fault: FaultName, { everywhere }: FaultRunOptions): readonly FaultTransport[] {
  if (ofPeer(fault)) return ['vfio-user']
  return everywhere ? ['loopback', 'vfio-user'] : ['loopback']
}

/** Whether the device did something of its own: what a hang prevents. */
export function works(moments: readonly Moment[]): boolean {
  return moments.some(({ kind }) => kind === 'dma' || kind === 'interrupt')
}

/** The cells of a row, of which a run without a fault had these moments. */
export function planRow(row: string, moments: readonly Moment[], options: FaultRunOptions): CellRequest[] {
  const { faults = faultNames, moments: most = DEFAULT_MOMENTS } = options
  return faults.flatMap((fault) => {
    const kind = kinds[fault]
    // A register that is polled is one moment.
    const candidates = moments
      .map((moment, i) => ({ index: i + 1, ...moment }))
      .filter(({ what }, i) => i === 0 || what !== moments[i - 1]!.what)
      .filter((moment) => kind === undefined || moment.kind === kind)
      .map(({ index, what }) => ({ index, what }))
    const chosen = sample(kind === undefined ? [before, ...candidates] : candidates, most)
    return transportsOf(fault, options).flatMap((transport) =>
      chosen.map((moment): CellRequest => ({ row, fault, transport, moment, works: works(moments) })),
    )
  })
}

/** At most `most` of them, evenly, the first and the last included; of one, that in the middle. */
function sample<T>(all: readonly T[], most: number): T[] {
  if (all.length <= most) return [...all]
  if (most <= 1) return all.slice(all.length >> 1, (all.length >> 1) + most)
  return Array.from({ length: most }, (_, i) => all[Math.round((i * (all.length - 1)) / (most - 1))]!)
}
