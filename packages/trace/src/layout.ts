/**
 * A trace in a file, little-endian: a page of header, then room for names, then records ({@link RECORD_BYTES} each). A ring and a file that was
 * written at once are the same: the latter is a ring that never went round.
 *
 * | byte | type | what                                                                        |
 * |-----:|------|-----------------------------------------------------------------------------|
 * |    0 | 8 B  | {@link MAGIC}                                                               |
 * |    8 | u32  | version of the layout, 1                                                    |
 * |   12 | u32  | bytes of a record, 32                                                       |
 * |   16 | u32  | where the names begin, 4096                                                 |
 * |   20 | u32  | room for names, in bytes                                                    |
 * |   24 | u32  | room for records, in records: one more than a file has, a power of two in a ring |
 * |   28 | u32  | process that writes it, 0 for none                                          |
 * |   32 | f64  | records that were ever written: record n is at n modulo the room            |
 * |   40 | u32  | bytes of names                                                              |
 * |   44 | u32  | names that had no room                                                      |
 * |   48 | f64  | records before the first that were lost                                     |
 * |   56 | u64  | CLOCK_REALTIME less CLOCK_MONOTONIC, in ns, when it was made                |
 *
 * Counters of records are doubles, since a processor stores one at once and JavaScript has no other number of 53 bits. A record is stored first, then
 * counted: one that is being overwritten is the oldest of those that are counted, so that the oldest is not to be believed once the ring is full.
 *
 * Names are lines of JSON in UTF-8, each one of {@link NameLine}: what they say holds for all records.
 */
export const MAGIC = 'UACTRACE'
export const VERSION = 1
export const HEADER_BYTES = 4096
export const at = {
  version: 8,
  recordBytes: 12,
  names: 16,
  namesRoom: 20,
  capacity: 24,
  pid: 28,
  written: 32,
  namesBytes: 40,
  namesLost: 44,
  lost: 48,
  realtimeNs: 56,
} as const

/** What numbers in records stand for. */
export type NameLine =
  | { readonly device: string; readonly driver?: string }
  /** Registers of a region, as `registers()` of @uaccel/core takes them. */
  | { readonly region: number; readonly registers: object }
  /** Numbers of the driver's commands. */
  | { readonly commands: Readonly<Record<string, number>> }
