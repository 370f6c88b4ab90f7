/**
 * Checks a trace against the Trace Event Format (the document of that name by Google, of 2016, which Perfetto's importer and chrome://tracing
 * go by): what each phase has to have, and of what type. Stricter than they are: fields that the document does not have are errors,
 * numbers of threads are whole, slices of one thread nest, and each thread that has events has a name.
 */
export function checkChromeTrace(trace: unknown): string[] {
  const problems: string[] = []
  const { traceEvents, displayTimeUnit, otherData, ...rest } = object(trace)
  if (!Array.isArray(traceEvents)) return ['there is no list traceEvents']
  if (displayTimeUnit !== undefined && displayTimeUnit !== 'ms' && displayTimeUnit !== 'ns')
    problems.push(`displayTimeUnit ${displayTimeUnit}`)
  if (otherData !== undefined && !isObject(otherData)) problems.push('otherData')
  for (const name of Object.keys(rest))
    if (!containerFields.has(name)) problems.push(`field ${name} of the trace`)
  const slices = new Map<string, Slice[]>()
  const named = new Set<string>()
  const used = new Set<string>()
  for (const [i, value] of traceEvents.entries()) {
    const event = object(value)
    const { ph, pid, tid, name, args } = event
    const check = phases[ph as keyof typeof phases]
    if (check === undefined) problems.push(`event ${i} has phase ${JSON.stringify(ph)}`)
    else {
      for (const [field, fits] of Object.entries({ ...common, ...check }))
        if (!fits(event[field]))
          problems.push(`event ${i} (${ph}, ${name}): ${field} is ${JSON.stringify(event[field])}`)
      for (const field of Object.keys(event))
        if (!(field in common) && !(field in check)) problems.push(`event ${i} (${ph}) has a field ${field}`)
    }
    const thread = `${pid}:${tid}`
    if (ph === 'M') {
      const wanted = metadata[name as keyof typeof metadata]
      if (wanted === undefined) problems.push(`event ${i}: metadata ${name}`)
      else if (typeof object(args)[wanted.field] !== wanted.type) problems.push(`event ${i}: args of ${name}`)
      if (name === 'thread_name') named.add(thread)
    } else used.add(thread)
    if (ph === 'X') {
      const list = slices.get(thread) ?? []
      slices.set(thread, list)
      list.push({ from: event.ts as number, to: (event.ts as number) + (event.dur as number) })
    }
  }
  for (const thread of used) if (!named.has(thread)) problems.push(`thread ${thread} has no name`)
  for (const [thread, list] of slices) problems.push(...nesting(thread, list))
  return problems
}

interface Slice {
  readonly from: number
  readonly to: number
}

/** Sums of fractions are not exact: half a nanosecond is not meant. */
const SLACK_US = 0.0005

function nesting(thread: string, list: readonly Slice[]): string[] {
  const problems: string[] = []
  const open: Slice[] = []
  for (const slice of list.toSorted((a, b) => a.from - b.from || b.to - a.to)) {
    while (open.length > 0 && open.at(-1)!.to <= slice.from + SLACK_US) open.pop()
    const around = open.at(-1)
    if (around !== undefined && slice.to > around.to + SLACK_US)
      problems.push(`thread ${thread}: a slice from ${slice.from} ends after the one around it`)
    open.push(slice)
  }
  return problems
}

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const object = (value: unknown): Json => (isObject(value) ? value : {})
const isText = (value: unknown) => typeof value === 'string' && value.length > 0
const isWhole = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
const isTime = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value >= 0
const maybe = (fits: (value: unknown) => boolean) => (value: unknown) => value === undefined || fits(value)

const containerFields = new Set([
  'systemTraceEvents',
  'powerTraceAsString',
  'stackFrames',
  'samples',
  'controllerTraceDataKey',
])
const common = {
  ph: isText,
  name: isText,
  pid: isWhole,
  tid: isWhole,
  args: maybe(isObject),
  cat: maybe(isText),
}
const numbers = (value: unknown) =>
  isObject(value) && Object.values(value).every((each) => typeof each === 'number')
/** By phase: what it has besides. */
const phases = {
  X: { ts: isTime, dur: isTime },
  B: { ts: isTime },
  E: { ts: isTime },
  i: { ts: isTime, s: (value: unknown) => ['g', 'p', 't', undefined].includes(value as string) },
  C: { ts: isTime, args: numbers },
  M: { ts: maybe(isTime), args: isObject },
} as const
const metadata = {
  process_name: { field: 'name', type: 'string' },
  process_labels: { field: 'labels', type: 'string' },
  process_sort_index: { field: 'sort_index', type: 'number' },
  thread_name: { field: 'name', type: 'string' },
  thread_sort_index: { field: 'sort_index', type: 'number' },
} as const
