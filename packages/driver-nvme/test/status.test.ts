import t from 'tap'
import { knownStatuses, statusError, statusName } from '../src/driver.js'

/**
 * The status codes of the NVM Express base specification 1.4 (4.6.1.2), by type, in its words; and what TP 4065
 * (copy) adds. Those of NVMe over Fabrics and of other command sets are not among them.
 */
const specified: Readonly<Record<string, readonly (readonly [code: number, words: string])[]>> = {
  generic: [
    [0x01, 'Invalid Command Opcode'],
    [0x02, 'Invalid Field in Command'],
    [0x03, 'Command ID Conflict'],
    [0x04, 'Data Transfer Error'],
    [0x05, 'Commands Aborted due to Power Loss Notification'],
    [0x06, 'Internal Error'],
    [0x07, 'Command Abort Requested'],
    [0x08, 'Command Aborted due to SQ Deletion'],
    [0x09, 'Command Aborted due to Failed Fused Command'],
    [0x0a, 'Command Aborted due to Missing Fused Command'],
    [0x0b, 'Invalid Namespace or Format'],
    [0x0c, 'Command Sequence Error'],
    [0x0d, 'Invalid SGL Segment Descriptor'],
    [0x0e, 'Invalid Number of SGL Descriptors'],
    [0x0f, 'Data SGL Length Invalid'],
    [0x10, 'Metadata SGL Length Invalid'],
    [0x11, 'SGL Descriptor Type Invalid'],
    [0x12, 'Invalid Use of Controller Memory Buffer'],
    [0x13, 'PRP Offset Invalid'],
    [0x14, 'Atomic Write Unit Exceeded'],
    [0x15, 'Operation Denied'],
    [0x16, 'SGL Offset Invalid'],
    [0x18, 'Host Identifier Inconsistent Format'],
    [0x19, 'Keep Alive Timer Expired'],
    [0x1a, 'Keep Alive Timeout Invalid'],
    [0x1b, 'Command Aborted due to Preempt and Abort'],
    [0x1c, 'Sanitize Failed'],
    [0x1d, 'Sanitize In Progress'],
    [0x1e, 'SGL Data Block Granularity Invalid'],
    [0x1f, 'Command Not Supported for Queue in CMB'],
    [0x20, 'Namespace is Write Protected'],
    [0x21, 'Command Interrupted'],
    [0x22, 'Transient Transport Error'],
    [0x80, 'LBA Out of Range'],
    [0x81, 'Capacity Exceeded'],
    [0x82, 'Namespace Not Ready'],
    [0x83, 'Reservation Conflict'],
    [0x84, 'Format In Progress'],
  ],
  'command specific': [
    [0x00, 'Completion Queue Invalid'],
    [0x01, 'Invalid Queue Identifier'],
    [0x02, 'Invalid Queue Size'],
    [0x03, 'Abort Command Limit Exceeded'],
    [0x05, 'Asynchronous Event Request Limit Exceeded'],
    [0x06, 'Invalid Firmware Slot'],
    [0x07, 'Invalid Firmware Image'],
    [0x08, 'Invalid Interrupt Vector'],
    [0x09, 'Invalid Log Page'],
    [0x0a, 'Invalid Format'],
    [0x0b, 'Firmware Activation Requires Conventional Reset'],
    [0x0c, 'Invalid Queue Deletion'],
    [0x0d, 'Feature Identifier Not Saveable'],
    [0x0e, 'Feature Not Changeable'],
    [0x0f, 'Feature Not Namespace Specific'],
    [0x10, 'Firmware Activation Requires NVM Subsystem Reset'],
    [0x11, 'Firmware Activation Requires Controller Level Reset'],
    [0x12, 'Firmware Activation Requires Maximum Time Violation'],
    [0x13, 'Firmware Activation Prohibited'],
    [0x14, 'Overlapping Range'],
    [0x15, 'Namespace Insufficient Capacity'],
    [0x16, 'Namespace Identifier Unavailable'],
    [0x18, 'Namespace Already Attached'],
    [0x19, 'Namespace Is Private'],
    [0x1a, 'Namespace Not Attached'],
    [0x1b, 'Thin Provisioning Not Supported'],
    [0x1c, 'Controller List Invalid'],
    [0x1d, 'Device Self-test In Progress'],
    [0x1e, 'Boot Partition Write Prohibited'],
    [0x1f, 'Invalid Controller Identifier'],
    [0x20, 'Invalid Secondary Controller State'],
    [0x21, 'Invalid Number of Controller Resources'],
    [0x22, 'Invalid Resource Identifier'],
    [0x23, 'Sanitize Prohibited While Persistent Memory Region is Enabled'],
    [0x24, 'ANA Group Identifier Invalid'],
    [0x25, 'ANA Attach Failed'],
    [0x80, 'Conflicting Attributes'],
    [0x81, 'Invalid Protection Information'],
    [0x82, 'Attempted Write to Read Only Range'],
    [0x83, 'Command Size Limit Exceeded'],
  ],
  media: [
    [0x80, 'Write Fault'],
    [0x81, 'Unrecovered Read Error'],
    [0x82, 'End-to-end Guard Check Error'],
    [0x83, 'End-to-end Application Tag Check Error'],
    [0x84, 'End-to-end Reference Tag Check Error'],
    [0x85, 'Compare Failure'],
    [0x86, 'Access Denied'],
    [0x87, 'Deallocated or Unwritten Logical Block'],
  ],
  path: [
    [0x00, 'Internal Path Error'],
    [0x01, 'Asymmetric Access Persistent Loss'],
    [0x02, 'Asymmetric Access Inaccessible'],
    [0x03, 'Asymmetric Access Transition'],
    [0x60, 'Controller Pathing Error'],
    [0x70, 'Host Pathing Error'],
    [0x71, 'Command Aborted By Host'],
  ],
}

const all = Object.values(specified).flatMap((codes, type) =>
  codes.map(([code, words]) => [(type << 8) | code, words] as const),
)

t.test('every status of the specification has a name, and nothing else has', async (t) => {
  for (const [status, words] of all) {
    const name = statusName(status)
    t.match(name, /^[A-Z][A-Z_]+$/, `0x${status.toString(16)}: ${words}`)
    // The name shares a word with the specification, so that no two were exchanged unseen.
    const shared = words
      .toUpperCase()
      .split(/[ -]/)
      .filter((word) => word.length > 2 && name.includes(word.replace('IDENTIFIER', 'ID').slice(0, 7)))
    t.ok(shared.length > 0, `${name} for ${words}`)
  }
  t.same(
    [...knownStatuses].sort((a, b) => a - b),
    all.map(([status]) => status).sort((a, b) => a - b),
  )
  t.equal(new Set(knownStatuses.map(statusName)).size, knownStatuses.length, 'no name twice')
})

t.test('what has no name is shown by its type and code', async (t) => {
  t.equal(statusName(0x017), 'generic 0x17')
  t.equal(statusName(0x104), 'command specific 0x4')
  t.equal(statusName(0x2ff), 'media 0xff')
  t.equal(statusName(0x4_00), 'type 4 0x0')
  t.equal(statusName(0x7c1), 'vendor specific 0xc1')
})

t.test('errors: code of the table, name, and whether to try again', async (t) => {
  t.match(statusError('read', 0x080), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    message: /read ended with LBA_OUT_OF_RANGE/,
    details: { command: 'read', status: 'LBA_OUT_OF_RANGE', statusCode: 0x080, retry: true },
  })
  // Bit 14 of the status field is DNR, bit 13 is More.
  t.match(statusError('write', 0x6000 | 0x280), {
    code: 'ERR_ACCEL_IO',
    details: { status: 'WRITE_FAULT', statusCode: 0x280, retry: false },
  })
})
