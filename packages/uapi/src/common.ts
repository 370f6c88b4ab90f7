import { added } from './field.js'
import { QUERY_BYTES } from './query.js'
import { bool, enumeration, flags, u16, u32, u64 } from './scalars.js'
import { buildUapi, cmd, FIRST_DRIVER_COMMAND } from './schema.js'
import { array, bytes, string } from './sequences.js'
import { struct } from './struct.js'

/** The longest path of an attribute, in bytes. */
export const ATTRIBUTE_PATH_BYTES = 128
/** The longest value of an attribute, in bytes: a page, as in sysfs. */
export const ATTRIBUTE_VALUE_BYTES = 4096
/** Events that one answer has room for. */
export const EVENTS_AT_ONCE = 32
/** Attributes that one answer has room for. */
export const ATTRIBUTES_AT_ONCE = 32

/** What an attribute is: its mode bits as in sysfs, and what its text means. */
const attributeFields = {
  mode: u16,
  scope: enumeration({ stable: 0, debug: 1 }),
  type: enumeration({ text: 0, integer: 1, number: 2, boolean: 3 }),
  unit: string(16),
  revision: u64,
}

/** What every accelerator answers, whatever its driver: numbers below {@link FIRST_DRIVER_COMMAND}. Append-only. */
export const commonUapi = buildUapi(
  {
    name: 'common',
    version: 3,
    commands: {
      version: cmd(0x00, {
        doc: "Which uAPI the node speaks: the driver's name, its version, and the SHA-256 of its layouts.",
        out: { uapi: string(32), version: u32, commonVersion: u32, digest: bytes(32) },
        concurrent: true,
      }),
      info: cmd(0x01, {
        doc:
          'Which device this is. An empty `tainted` means that an IOMMU isolates it; `iommu` names the interface to ' +
          'the IOMMU (type1, iommufd, or none) and is empty where the device is not behind the kernel. `vendor`, `device` and ' +
          '`classCode` are those of PCI, and 0 on other buses.',
        out: {
          node: string(32),
          driver: string(32),
          transport: string(16),
          address: string(256),
          tainted: string(256),
          emulated: enumeration({ unknown: 0, no: 1, yes: 2 }),
          bus: enumeration({ pci: 0, platform: 1 }),
          vendor: u16,
          device: u16,
          classCode: u32,
          iommu: added(2, string(16)),
        },
        concurrent: true,
      }),
      query: cmd(0x02, {
        doc:
          'One kind of information; kinds and their structures are those of `queryUapi`. `present` is false where the node has ' +
          'nothing of that kind. `data` is the first `sizeBytes` of the structure, or all of it where that is shorter; the answer’s ' +
          '`sizeBytes` is what the node has, and `truncated` says that something that is not zero was cut off. Of a list the entries ' +
          'begin with number `from`.',
        in: { kind: u32, from: u32, sizeBytes: u32 },
        out: { present: bool, truncated: bool, sizeBytes: u32, data: bytes(QUERY_BYTES) },
        concurrent: true,
      }),
      events: cmd(0x03, {
        doc:
          'Waits for events after number `after`, those before the open left out, and answers all at hand. `last` is what to ask with ' +
          'next; `lost` is how many in between the node does not have any more. With `nonblock` it answers at once. `atNs` counts ' +
          'as CLOCK_REALTIME does, `error` is a number of the error table, or 0, and `open` the open concerned, or 0.',
        in: { after: u64, options: flags({ nonblock: 0 }) },
        out: {
          last: u64,
          lost: u64,
          events: array(
            struct({
              sequence: u64,
              atNs: u64,
              kind: enumeration({
                other: 0,
                reset: 1,
                timeout: 2,
                pageFault: 3,
                error: 4,
                removal: 5,
                request: 6,
              }),
              error: u32,
              open: u32,
              reason: string(160),
            }),
            EVENTS_AT_ONCE,
          ),
        },
        concurrent: true,
      }),
      reset: cmd(0x04, {
        doc: 'Resets the device, where the open has the right to. The commands under way end with an error.',
        in: { kind: enumeration({ default: 0, function: 1, hot: 2 }), reason: string(128) },
        concurrent: true,
      }),
      attrList: cmd(0x30, {
        doc: 'The attributes below a path, or all, or the one of that path, by name, from entry `from` on.',
        in: { path: string(ATTRIBUTE_PATH_BYTES), from: u32 },
        out: {
          total: u32,
          entries: array(
            struct({ path: string(ATTRIBUTE_PATH_BYTES), ...attributeFields }),
            ATTRIBUTES_AT_ONCE,
          ),
        },
        concurrent: true,
      }),
      attrShow: cmd(0x31, {
        doc: 'The value of an attribute, as text without a line end.',
        in: { path: string(ATTRIBUTE_PATH_BYTES) },
        out: { ...attributeFields, value: string(ATTRIBUTE_VALUE_BYTES) },
        concurrent: true,
      }),
      attrStore: cmd(0x32, {
        doc: 'Sets an attribute. One line end after the value is ignored.',
        in: { path: string(ATTRIBUTE_PATH_BYTES), value: string(ATTRIBUTE_VALUE_BYTES) },
        out: { revision: u64 },
        concurrent: true,
      }),
      attrWatch: cmd(0x33, {
        doc:
          'Waits until an attribute is of a later revision than `after`, and shows it. Only attributes whose driver tells of changes ' +
          'get one.',
        in: { path: string(ATTRIBUTE_PATH_BYTES), after: u64 },
        out: { ...attributeFields, value: string(ATTRIBUTE_VALUE_BYTES) },
        concurrent: true,
      }),
    },
  },
  { first: 0, last: FIRST_DRIVER_COMMAND - 1 },
)
