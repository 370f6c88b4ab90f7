export {
  decodeRecord,
  EventKind,
  type EventKindName,
  encodeRecord,
  kindName,
  monotonicNs,
  RECORD_BYTES,
  RecordArray,
  type TraceEvent,
} from './event.js'
export { type TraceBatch, TraceFile } from './file.js'
export type { NameLine } from './layout.js'
export { TraceNames } from './names.js'
export { type ChromeEvent, PerfettoTrace } from './perfetto.js'
export { JOB_QUEUE, type RingOptions, TraceRing } from './ring.js'
export { duration, type Lane, type Latency, type Told, type Topic, TraceStory, topics } from './story.js'
export { TraceWriter } from './writer.js'
