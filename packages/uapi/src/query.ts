import { accelError } from './errors.js'
import { doc } from './field.js'
import { bool, enumeration, flags, i32, i64, u8, u16, u32, u64 } from './scalars.js'
import { buildUapi, type CommandOutput, type CommandsOf, cmd } from './schema.js'
import { array, string } from './sequences.js'
import { type Fields, struct } from './struct.js'

/** Room for one answer of QUERY, in bytes: a kind with more entries than fit is asked again, from a later one on. */
export const QUERY_BYTES = 8192

/** A list: how many entries there are in all, and those that fit, from the one on that was asked for. */
const list = <F extends Fields>(entry: F, max: number) => ({ total: u32, entries: array(struct(entry), max) })

/**
 * What QUERY can be asked for: the number of a kind is its `kind`, its output is the structure that comes as `data`. A kind
 * grows at its end, as a command does; the entries of a list do not. Append-only.
 *
 * What a node does not know is absent: an empty text, an entry that is not there, a value whose flag in `known` is not set.
 * Times in `...Ns` are nanoseconds; those of moments count as CLOCK_REALTIME does.
 */
export const queryUapi = buildUapi(
  {
    name: 'query',
    version: 1,
    commands: {
      identity: cmd(0x00, {
        doc:
          'Which device this is. `known.pci`: the numbers are those of its config space. `uapi` and `uapiVersion` are what its ' +
          'driver speaks; `name` and `firmware` are what the driver says of the device.',
        out: {
          known: flags({ pci: 0 }),
          bus: enumeration({ pci: 0, platform: 1 }),
          vendor: u16,
          device: u16,
          subsystemVendor: doc('Of the config space, as `vendor` and `device`.', u16),
          subsystem: u16,
          classCode: doc('24 bits: base class, subclass, interface.', u32),
          revision: u8,
          emulated: doc('Whether the device is software.', enumeration({ unknown: 0, no: 1, yes: 2 })),
          uapiVersion: doc("Version of the driver's uAPI.", u32),
          node: doc('Name of the node, such as accel0.', string(32)),
          driver: string(32),
          driverVersion: doc('As the driver says; empty where it does not.', string(32)),
          uapi: string(32),
          name: string(64),
          firmware: string(64),
          transport: doc('How the driver reaches the device: vfio, uio, vfio-user, loopback.', string(16)),
          address: doc('Where the transport found it: a PCI address, a socket.', string(256)),
          iommu: doc(
            'Interface to the IOMMU: type1, iommufd, or none; empty where the kernel does not hold the device.',
            string(16),
          ),
          tainted: doc(
            'Why the device can reach memory that is not its own; empty where an IOMMU isolates it.',
            string(256),
          ),
        },
      }),
      status: cmd(0x01, {
        doc: 'Whether the device works. `reason` says why, where it does not; `opens` are those that hold it now.',
        out: {
          state: enumeration({
            operational: 0,
            inReset: 1,
            needsReset: 2,
            malfunction: 3,
            beingCreated: 4,
            beingCleaned: 5,
            removed: 6,
          }),
          opens: u32,
          reason: string(256),
        },
      }),
      limits: cmd(0x02, {
        doc: 'The most, or least, that the device and its node take, by name.',
        out: list(
          {
            name: string(32),
            unit: doc('Of `value`, such as bytes; empty for a plain number.', string(16)),
            value: u64,
          },
          64,
        ),
      }),
      memoryRegions: cmd(0x03, {
        doc: 'Memory of the device: its BARs, and what the driver says is behind them. `mappable`: a part of it at least.',
        out: list(
          {
            name: string(32),
            kind: doc(
              'A BAR, or memory behind it that the driver knows of.',
              enumeration({ bar: 0, device: 1 }),
            ),
            known: flags({ used: 0 }),
            mappable: doc('Whether a part of it, at least, can be mapped.', bool),
            sizeBytes: u64,
            usedBytes: doc('Where `known` says so.', u64),
          },
          64,
        ),
      }),
      engines: cmd(0x04, {
        doc:
          'What executes work. `command` is the turn that commands take, `job` what runs jobs where the driver takes some, as many at ' +
          'once as it has `instances`; the others are the driver’s. `busyNs` adds up over all of ' +
          '`instances`, up to `atNs`; `utilisationPermille` is of the interval, at least 100 ms long, before the latest queries.',
        out: list(
          {
            name: string(32),
            instances: doc('How many of it work side by side.', u32),
            known: flags({ busy: 0, utilisation: 1, heartbeat: 2 }),
            utilisationPermille: doc('Where `known` says so: thousandths of the interval before.', u32),
            busyNs: doc('Where `known` says so: of all instances, up to `atNs`.', u64),
            heartbeat: doc('Where `known` says so: a counter that rises while the device lives.', u64),
            atNs: doc('When the others were read.', u64),
          },
          64,
        ),
      }),
      clocks: cmd(0x05, {
        doc: 'The rates at which parts of the device run.',
        out: list(
          { name: string(32), known: flags({ max: 0 }), hz: u64, maxHz: doc('Where `known` says so.', u64) },
          64,
        ),
      }),
      power: cmd(0x06, {
        doc: 'What the device takes.',
        out: {
          known: flags({ drawn: 0, cap: 1, energy: 2 }),
          drawnMicrowatts: u64,
          capMicrowatts: u64,
          energyMicrojoules: u64,
          state: doc('As the driver names it; empty where it does not.', string(32)),
        },
      }),
      sensors: cmd(0x07, {
        doc: 'What the device measures. Each value counts in `unit` times 10 to the power of `exponent`.',
        out: list(
          {
            name: string(32),
            kind: enumeration({
              other: 0,
              temperature: 1,
              voltage: 2,
              current: 3,
              power: 4,
              energy: 5,
              fan: 6,
              humidity: 7,
            }),
            unit: doc('Of the values, before `exponent`.', string(16)),
            exponent: doc('Power of 10 that the values are multiplied by.', i32),
            known: flags({ min: 0, max: 1, critical: 2 }),
            value: i64,
            min: i64,
            max: i64,
            critical: i64,
          },
          64,
        ),
      }),
      contexts: cmd(0x08, {
        doc: 'The opens that there are. `self` is the one that asks. Counters as in `counters`; `busyNs` is its part of engines `command` and `job`.',
        out: list(
          {
            id: doc('Number of the open, as events name it.', u32),
            self: doc('The open that asks.', bool),
            known: flags({ peer: 0 }),
            pid: doc('Of the process at the other end, where `known` has peer.', u32),
            uid: u32,
            gid: u32,
            rights: doc('What it may do beyond calling commands.', flags({ reset: 0, owner: 1, group: 2 })),
            openedNs: u64,
            busyNs: u64,
            submissions: u64,
            completions: u64,
            failures: u64,
          },
          64,
        ),
      }),
      counters: cmd(0x09, {
        doc:
          'Commands of the driver and jobs since the node is there. Each of `submissions` becomes one of `completions` or `failures`; `drops` are ' +
          'the failures that the driver never saw. `refusals` never became a submission. `errors` are the failures by number of the ' +
          'error table, and `eventsLost` the events that were overwritten in the history.',
        out: {
          submissions: u64,
          completions: u64,
          failures: u64,
          drops: u64,
          refusals: u64,
          opens: u64,
          resets: u64,
          events: u64,
          eventsLost: u64,
          errors: array(struct({ error: u32, count: u64 }), 128),
        },
      }),
      resets: cmd(0x0a, {
        doc: 'The latest resets, newest first; `error` is the number of what one failed with, or 0. `total` counts all that there were.',
        out: list(
          {
            kind: enumeration({ default: 0, function: 1, hot: 2 }),
            error: doc('Number of the error that it failed with, or 0.', u32),
            startedNs: u64,
            durationNs: u64,
            reason: string(160),
          },
          32,
        ),
      }),
      opens: cmd(0x0b, {
        doc: 'The latest opens, newest first; `total` counts all that there were.',
        out: list(
          {
            id: u32,
            known: flags({ closed: 0, peer: 1 }),
            pid: doc('Of the process at the other end, where `known` has peer.', u32),
            uid: u32,
            gid: u32,
            openedNs: u64,
            closedNs: doc('Where `known` has closed.', u64),
          },
          64,
        ),
      }),
      timeSync: cmd(0x0c, {
        doc:
          'The device’s clocks beside those of the host, as of one moment, which lies within `uncertaintyNs` before or after: ' +
          'CLOCK_MONOTONIC and CLOCK_REALTIME.',
        out: list(
          {
            name: string(32),
            deviceTicks: doc("The device's own clock.", u64),
            ticksPerSecond: u64,
            monotonicNs: u64,
            realtimeNs: u64,
            uncertaintyNs: doc('How far the moment may lie from the one of `monotonicNs`, either way.', u64),
          },
          32,
        ),
      }),
      usage: cmd(0x0d, {
        doc: 'What each open uses, with the keys of DRM’s fdinfo (Documentation/gpu/drm-usage-stats.rst): lines of `key:<tab>value`.',
        out: list({ open: u32, self: bool, text: string(1000) }, 8),
      }),
    },
  },
  { first: 0, last: 0xffff },
)

for (const { name, out } of Object.values(queryUapi.commands)) {
  if (out.layout.sizeBytes > QUERY_BYTES)
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `kind ${name} takes ${out.layout.sizeBytes} bytes`)
}

/** The name of a kind of QUERY. */
export type QueryKind = string & keyof CommandsOf<typeof queryUapi>
/** What a node says to a query of kind `K`. */
export type QueryOutput<K extends QueryKind> = CommandOutput<typeof queryUapi, K>
/** The same, as the node gives it. */
export type QueryAnswer<K extends QueryKind> = Parameters<
  (typeof queryUapi)['commands'][K]['out']['encode']
>[0]

/** The input of command `query` for a kind: with all of its structure, and of a list from entry `from` on. */
export function queryRequest(kind: QueryKind, from = 0): { kind: number; from: number; sizeBytes: number } {
  const { number, out } = queryUapi.byName(kind)
  return { kind: number, from, sizeBytes: out.layout.sizeBytes }
}

/** What a node answered to {@link queryRequest}; `undefined` where it has nothing of that kind. */
export function queryOutput<K extends QueryKind>(
  kind: K,
  { present, data }: { readonly present: boolean; readonly data: Uint8Array },
): QueryOutput<K> | undefined {
  return present ? (queryUapi.byName(kind).out.decode(data) as QueryOutput<K>) : undefined
}
