import { added, doc } from './field.js'
import { QUERY_BYTES } from './query.js'
import { bool, enumeration, fd, flags, handle, u16, u32, u64 } from './scalars.js'
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

const bo = handle('bo')
const fence = handle('fence')
const queue = handle('queue')
/** A part of a buffer object, and what the device may do with it. */
const range = struct({
  handle: bo,
  access: enumeration({ read: 0, write: 1, readwrite: 2 }),
  offset: u64,
  sizeBytes: u64,
})
/** A part of a file that the client maps. */
const filePart = struct({ offset: u64, sizeBytes: u64 })
/** A value of a timeline fence. */
const point = struct({ fence, value: u64 })
/** None yet: each bit is refused, so that it can get a meaning later. */
const noFlags = flags<never>({})

/** What every accelerator answers, whatever its driver: numbers below {@link FIRST_DRIVER_COMMAND}. Append-only. */
export const commonUapi = buildUapi(
  {
    name: 'common',
    version: 3,
    commands: {
      version: cmd(0x00, {
        doc: "Which uAPI the node speaks: the driver's name, its version, and the SHA-256 of its layouts.",
        out: {
          uapi: doc("Name of the driver's uAPI.", string(32)),
          version: doc('Its version.', u32),
          commonVersion: doc('Version of the commands that every device answers.', u32),
          digest: doc("SHA-256 of the names, numbers and layouts of the driver's uAPI.", bytes(32)),
        },
        concurrent: true,
      }),
      info: cmd(0x01, {
        doc: 'Which device this is, which driver holds it, and what stands between it and memory.',
        out: {
          node: doc('Name of the node, such as accel0.', string(32)),
          driver: doc('Name of the driver.', string(32)),
          transport: doc('How the driver reaches the device: vfio, uio, vfio-user, loopback.', string(16)),
          address: doc('Where the transport found it: a PCI address, a socket.', string(256)),
          tainted: doc(
            'Why the device can reach memory that is not its own; empty where an IOMMU isolates it.',
            string(256),
          ),
          emulated: doc('Whether the device is software.', enumeration({ unknown: 0, no: 1, yes: 2 })),
          bus: doc('The bus that the device is identified by.', enumeration({ pci: 0, platform: 1 })),
          vendor: doc('PCI vendor id; 0 on other buses.', u16),
          device: doc('PCI device id; 0 on other buses.', u16),
          classCode: doc('PCI class code, 24 bits: base class, subclass, interface; 0 on other buses.', u32),
          iommu: added(
            2,
            doc(
              'Interface to the IOMMU: type1, iommufd, or none; empty where the kernel does not hold the device.',
              string(16),
            ),
          ),
        },
        concurrent: true,
      }),
      query: cmd(0x02, {
        doc:
          'One kind of information; kinds and their structures are those of the uAPI query (query.h for C). `present` is false where the node has ' +
          'nothing of that kind. `data` is the first `sizeBytes` of the structure, or all of it where that is shorter; the answer’s ' +
          '`sizeBytes` is what the node has, and `truncated` says that something that is not zero was cut off. Of a list the entries ' +
          'begin with number `from`.',
        in: {
          kind: doc('A number of the uAPI query.', u32),
          from: doc('First entry wanted, of a list.', u32),
          sizeBytes: doc('What the client has room for.', u32),
        },
        out: {
          present: doc('Whether the node has anything of that kind.', bool),
          truncated: doc('Something that is not zero was cut off.', bool),
          sizeBytes: u32,
          data: bytes(QUERY_BYTES),
        },
        concurrent: true,
      }),
      events: cmd(0x03, {
        doc:
          'Waits for events after number `after`, those before the open left out, and answers all at hand. `last` is what to ask with ' +
          'next; `lost` is how many in between the node does not have any more. With `nonblock` it answers at once. `atNs` counts ' +
          'as CLOCK_REALTIME does, `error` is a number of the error table, or 0, and `open` the open concerned, or 0.',
        in: { after: doc('`last` of the answer before; 0 at first.', u64), options: flags({ nonblock: 0 }) },
        out: {
          last: u64,
          lost: doc('Events in between that the node does not have any more.', u64),
          events: array(
            struct({
              sequence: doc('Counts up by one with each event of the node.', u64),
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
        in: {
          kind: enumeration({ default: 0, function: 1, hot: 2 }),
          reason: doc('For the record, and for those whom it hits.', string(128)),
        },
        concurrent: true,
      }),
      trace: cmd(0x05, {
        doc:
          'Traces the device until this open ends, for root and the user of the server: registers, interrupts, DMA mappings, commands and ' +
          'jobs, into a ring in a file that `fd` reads. Its form is that of @uaccel/trace. Once nobody traces any more the file is removed; ' +
          'where the server is killed it stays at `path`.',
        in: { flags: noFlags },
        out: { path: string(256), fd },
        concurrent: true,
      }),
      boCreate: cmd(0x10, {
        doc:
          'Makes a buffer object of zeroed memory, which belongs to this open. `sizeBytes` of the answer is what it really has: ' +
          'whole pages.',
        in: { sizeBytes: u64, flags: noFlags },
        out: { sizeBytes: u64, handle: bo },
        concurrent: true,
      }),
      boInfo: cmd(0x11, {
        doc: 'What a buffer object is. `jobs` counts those that use it and have not ended.',
        in: { handle: bo },
        out: { sizeBytes: u64, flags: noFlags, jobs: doc('Jobs that use it and have not ended.', u32) },
        concurrent: true,
      }),
      boMmap: cmd(0x12, {
        doc:
          'Gives a descriptor of the memory, which can neither shrink nor grow, for the client to map: `sizeBytes` from `offset` ' +
          'on. The descriptor and the mapping keep the memory when the buffer object goes.',
        in: { handle: bo, flags: noFlags },
        out: { offset: u64, sizeBytes: u64, fd },
        concurrent: true,
      }),
      boSync: cmd(0x13, {
        doc:
          'Makes what the client wrote into a range visible to the device, or the reverse. Where the device sees the caches of the ' +
          'processor there is nothing to do but to check the range.',
        in: {
          handle: bo,
          direction: enumeration({ toDevice: 0, fromDevice: 1 }),
          offset: u64,
          sizeBytes: u64,
        },
        concurrent: true,
      }),
      boWait: cmd(0x14, {
        doc:
          'Waits until the jobs that use the buffer object now have ended, or until `deadlineNs` of CLOCK_MONOTONIC. Answers with ' +
          'the error of the last job that was to write it, where that failed.',
        in: { handle: bo, deadlineNs: doc('Time of CLOCK_MONOTONIC.', u64) },
        concurrent: true,
      }),
      boDestroy: cmd(0x15, {
        doc: 'Gives the handle back. The memory is freed when no job uses it any more.',
        in: { handle: bo },
        concurrent: true,
      }),
      boExport: cmd(0x16, {
        doc:
          'Gives a descriptor of the memory for others to import: the memory itself, or a dma-buf of it for kernel drivers. It keeps ' +
          'the memory when the buffer object goes.',
        in: { handle: bo, kind: enumeration({ memory: 0, dmaBuf: 1 }), flags: noFlags },
        out: { sizeBytes: u64, fd },
        concurrent: true,
      }),
      boImport: cmd(0x17, {
        doc:
          'Makes a buffer object of memory that was exported, here or elsewhere, or of any memfd that is sealed against shrinking, or of a ' +
          'dma-buf of a buffer object of this server. Where this open has it already, the answer is the handle that it has.',
        in: { fd, flags: noFlags },
        out: { sizeBytes: u64, handle: bo },
        concurrent: true,
      }),
      submit: cmd(0x20, {
        doc:
          'Queues a job for the device. `buffers` is all that it may touch; `payload` has a form of the driver and names ' +
          'them by their place in that list. It starts after the earlier jobs of this open have started, once `waits` are reached and no ' +
          'job is under way that writes what it uses or uses what it writes. When it has ended, however, `signal` is reached; a fence of ' +
          '0 is none. `job` counts up within the open, for messages.',
        in: {
          buffers: array(range, 32),
          waits: array(point, 8),
          signal: point,
          flags: noFlags,
          payload: bytes(8192),
        },
        out: { job: u64 },
        concurrent: true,
      }),
      wait: cmd(0x21, {
        doc:
          'Waits until all points are reached, or with `any` the first of them, whose place is `index`; until `deadlineNs` of ' +
          'CLOCK_MONOTONIC at most. A point that no job will signal is refused, unless `forSubmit` says that the job is yet to come. ' +
          'Where the job of a point failed, the answer is its error.',
        in: { points: array(point, 16), deadlineNs: u64, flags: flags({ any: 0, forSubmit: 1 }) },
        out: { index: u32 },
        concurrent: true,
      }),
      fenceCreate: cmd(0x22, {
        doc: 'Makes a timeline fence, which belongs to this open: a value that jobs raise.',
        in: { initialValue: u64, flags: noFlags },
        out: { handle: fence },
        concurrent: true,
      }),
      fenceEvent: cmd(0x23, {
        doc:
          'Gives an eventfd that becomes readable once the fence has reached `value`, whether or not the job failed, or cannot reach ' +
          'it any more because it was destroyed.',
        in: { handle: fence, flags: noFlags, value: u64 },
        out: { fd },
        concurrent: true,
      }),
      fenceDestroy: cmd(0x24, {
        doc: 'Gives the handle back. Jobs that wait for the fence, or signal it, are not disturbed.',
        in: { handle: fence },
        concurrent: true,
      }),
      queueCreate: cmd(0x28, {
        doc:
          'Makes a queue of the device that the client itself fills: it maps `rings` and `doorbell`, each a part of the file that ' +
          'comes with it. `buffers` is all that the queue may touch, and is kept until the queue is gone. `payload` has a form of the ' +
          'driver, both ways. A client signals the eventfd `kick` where the driver says that a device has to be woken. The open has to ' +
          'be the only one of the device, and stays so as long as it has a queue.',
        in: { buffers: array(range, 32), entries: u32, flags: noFlags, payload: bytes(256) },
        out: {
          handle: queue,
          ringsPart: filePart,
          doorbellPart: filePart,
          rings: fd,
          doorbell: fd,
          kick: fd,
          payload: bytes(1024),
        },
        concurrent: true,
      }),
      queueDestroy: cmd(0x29, {
        doc: 'Stops a queue, and answers when the device is done with all that the queue might touch.',
        in: { handle: queue },
        concurrent: true,
      }),
      queueEvent: cmd(0x2a, {
        doc: 'Gives an eventfd that is signalled when work of the queue was completed, and when the queue has failed.',
        in: { handle: queue, flags: noFlags },
        out: { fd },
        concurrent: true,
      }),
      attrList: cmd(0x30, {
        doc: 'The attributes below a path, or all, or the one of that path, by name, from entry `from` on.',
        in: { path: string(ATTRIBUTE_PATH_BYTES), from: doc('First entry wanted.', u32) },
        out: {
          total: doc('How many there are in all.', u32),
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

const { events, attrWatch, wait, boWait } = commonUapi.commands

/** Commands that may do nothing but wait, by number, and what for: something to happen, or jobs to end. */
export const commonWaits: ReadonlyMap<number, 'events' | 'jobs'> = new Map([
  [events.number, 'events'],
  [attrWatch.number, 'events'],
  [wait.number, 'jobs'],
  [boWait.number, 'jobs'],
])
