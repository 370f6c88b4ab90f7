import { readFileSync } from 'node:fs'
import {
  type ConfigSpaceInfo,
  decodeConfigSpace,
  type IrqVectors,
  type KernelInterrupt,
  type NoIommuOptions,
  openDevice,
  PciRegion,
  readKernelInterrupts,
  readPciDevice,
  type Transport,
  type VectorType,
} from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { type Command, Option } from 'commander'
import { ask, PATIENCE_MS } from '../nodes/ask.js'
import { type FolderFlag, isNode, nodeHelp, nodeOptions, withNode } from '../nodes/find.js'
import { interruptsOf } from '../nodes/readings.js'
import { exitCodes, printJson } from '../output.js'
import { table } from '../table.js'
import { allowNoIommu, isSocket, openTarget, parseAddress, targetHelp } from '../target.js'
import { clean } from '../text.js'
import { duration } from '../units.js'
import { interrupted, pause, positive, seconds } from './loop.js'

const vectorTypes: readonly VectorType[] = ['intx', 'msi', 'msix']
/** How often each vector is fired, unless told. */
const TIMES = 10

interface IrqFlags extends NoIommuOptions, FolderFlag {
  test?: boolean
  type?: VectorType
  times?: number
  loop?: number
  count?: number
  json?: boolean
}

/** One kind of interrupt. What is not known is absent. */
interface Kind {
  readonly type: VectorType
  readonly vectors: number
  readonly enabled?: boolean
  readonly enabledVectors?: number
  /** The device keeps all of them back. */
  readonly masked?: boolean
}

/** `uaccel irq`: what interrupts there are, who has them, and whether they arrive. */
export function irqCommand(command: Command): void {
  nodeOptions(command.argument('<device>', `${nodeHelp}; or, where nobody serves it, ${targetHelp}`))
    .option(
      '--test',
      'open the device, arm each vector and fire it without the device: does it arrive, and when',
    )
    .addOption(new Option('--type <type>', 'test this kind only').choices(vectorTypes))
    .option('--times <n>', `how often each vector is fired by --test; default ${TIMES}`, positive)
    .option('--loop <seconds>', 'a node: again and again, with rates', seconds)
    .option('--count <n>', 'a node: so often at most, with --loop', positive)
    .option('--json', 'as JSON; a line for each round with --loop')
    .option(...allowNoIommu)
    .addHelpText(
      'after',
      `
Without --test a PCI device is not opened, and whoever holds it is not
disturbed: config space says which kind is enabled, the kernel what it counted.

--test has the kernel, or the vfio-user server, signal each vector as if the
device had (VFIO_DEVICE_SET_IRQS). What arrives proves all but the device's own
message; where nothing arrives, the driver need not be searched. The device is
reset when it is given back. It ends with 1 where one did not arrive.

Examples:
  uaccel irq 00:05.0
  uaccel irq 00:05.0 --test
  uaccel irq ./edu.sock --test --type msi --times 1000
  uaccel irq accel0 --loop 1`,
    )
    .action((target: string, flags: IrqFlags) => {
      for (const [option, wanted] of [
        ['type', 'test'],
        ['times', 'test'],
        ['count', 'loop'],
      ] as const)
        if (flags[option] !== undefined && flags[wanted] === undefined)
          command.error(`error: --${option} is for --${wanted}`, { exitCode: exitCodes.usage.code })
      if (isNode(target)) return ofNode(target, flags)
      return flags.test ? test(target, flags) : show(target, flags)
    })
}

async function show(target: string, { json, loop, ...how }: IrqFlags): Promise<void> {
  refuseLoop(target, loop)
  let kinds: Kind[]
  let irqs: KernelInterrupt[] = []
  if (isSocket(target) || target.startsWith('uio:')) {
    const transport = await openTarget(target, how)
    try {
      kinds = kindsOf(transport)
    } finally {
      await transport.close()
    }
  } else {
    const { bdf } = readPciDevice(parseAddress(target))
    kinds = kindsIn(decodeConfigSpace(readFileSync(`/sys/bus/pci/devices/${bdf}/config`)))
    irqs = readKernelInterrupts(bdf)
  }
  if (json) {
    printJson({ device: target, kinds, irqs })
    return
  }
  const rows = kinds.map((kind) => [kind.type, `${kind.vectors}`, stateOf(kind)])
  process.stdout.write(
    rows.length === 0 ? `${target} has no interrupts.\n` : table(['KIND', 'VECTORS', 'STATE'], rows),
  )
  if (irqs.length === 0) return
  const counted = irqs.map(({ irq, type, count, handler }) => [
    `${irq}`,
    type,
    count === undefined ? '-' : `${count}`,
    clean(handler ?? 'nobody'),
  ])
  process.stdout.write(`\n${table(['IRQ', 'KIND', 'COUNT', 'REQUESTED BY'], counted)}`)
}

function refuseLoop(target: string, loop: number | undefined): void {
  if (loop === undefined) return
  throw accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `${target} is no node, and only a node tells how its counts grow: leave --loop out.`,
  )
}

function stateOf({ enabled, enabledVectors, masked }: Kind): string {
  if (enabled === undefined) return '-'
  if (!enabled) return 'disabled'
  return `enabled${enabledVectors === undefined ? '' : `, ${enabledVectors}`}${masked ? ', masked' : ''}`
}

/** As config space has them: the kinds that a PCI function has, and which of them is enabled. */
function kindsIn({ interruptPin, command, capabilities }: ConfigSpaceInfo): Kind[] {
  const of = (name: string) => capabilities.find((capability) => capability.name === name)?.fields
  const [msi, msix] = [of('MSI'), of('MSI-X')]
  const messages = msi?.enabled === true || msix?.enabled === true
  return [
    ...(interruptPin === undefined
      ? []
      : [{ type: 'intx' as const, vectors: 1, enabled: !messages && !command.intxDisable }]),
    ...(msi === undefined
      ? []
      : [
          {
            type: 'msi' as const,
            vectors: Number(msi.vectors),
            enabled: msi.enabled === true,
            ...(msi.enabled === true && { enabledVectors: Number(msi.enabledVectors) }),
          },
        ]),
    ...(msix === undefined
      ? []
      : [
          {
            type: 'msix' as const,
            vectors: Number(msix.vectors),
            enabled: msix.enabled === true,
            masked: msix.masked === true,
          },
        ]),
  ]
}

/** As the transport offers them, and, where there is config space, which is enabled. */
function kindsOf(transport: Transport): Kind[] {
  const bytes = new Uint8Array(transport.regions[PciRegion.CONFIG]?.sizeBytes ?? 0)
  if (bytes.length > 0) transport.readBytes(PciRegion.CONFIG, 0, bytes)
  const inConfig = bytes.length > 0 ? kindsIn(decodeConfigSpace(bytes)) : []
  return vectorTypes
    .filter((type) => transport.irqs[type].count > 0)
    .map((type) => ({
      ...inConfig.find((kind) => kind.type === type),
      type,
      vectors: transport.irqs[type].count,
    }))
}

/** What became of the interrupts that one vector was fired with. */
interface Tested {
  readonly type: VectorType
  readonly vector: number
  readonly fired: number
  readonly arrived: number
  /** From the call that fires it until this process had it. Absent where none arrived. */
  readonly medianNs?: number
  readonly maxNs?: number
}

/** How long an interrupt may take that the kernel fires by itself. */
const ARRIVAL_MS = 1000

async function test(target: string, { type, times = TIMES, json, loop, ...how }: IrqFlags): Promise<void> {
  refuseLoop(target, loop)
  const transport = await openTarget(target, how)
  const device = openDevice(transport)
  const results: Tested[] = []
  try {
    const offered = vectorTypes.filter((kind) => transport.irqs[kind].count > 0)
    const wanted = type === undefined ? offered : offered.filter((kind) => kind === type)
    if (wanted.length === 0) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${target} has no ${type ?? ''} interrupts${type === undefined ? '' : `; it has ${offered.join(', ') || 'none'}`}.`,
      )
    }
    await device.enable()
    for (const kind of wanted) {
      const irqs = await device.allocIrqVectors({ types: [kind], min: 1, max: transport.irqs[kind].count })
      for (let vector = 0; vector < irqs.count; vector++) results.push(fire(irqs, vector, times))
      irqs.release()
    }
  } finally {
    await device.release()
    await transport.close()
  }
  if (results.some(({ arrived }) => arrived < times)) process.exitCode = exitCodes.failed.code
  if (json) {
    printJson({ device: target, tests: results })
    return
  }
  const time = (ns: number | undefined) => (ns === undefined ? '-' : duration(ns))
  process.stdout.write(
    table(
      ['KIND', 'VECTOR', 'ARRIVED', 'MEDIAN', 'LONGEST'],
      results.map(({ type, vector, fired, arrived, medianNs, maxNs }) => [
        type,
        `${vector}`,
        `${arrived} of ${fired}`,
        time(medianNs),
        time(maxNs),
      ]),
    ),
  )
}

function fire(irqs: IrqVectors, vector: number, times: number): Tested {
  const took: number[] = []
  for (let i = 0; i < times; i++) {
    irqs.waitSync(vector, { timeoutMs: 0 }) // what the device itself fired is not of this test; a line is unmasked here
    const start = process.hrtime.bigint()
    irqs.trigger(vector)
    const arrived = irqs.waitSync(vector, { timeoutMs: ARRIVAL_MS }) > 0
    if (arrived) took.push(Number(process.hrtime.bigint() - start))
    else break // each of the others would take as long
  }
  took.sort((a, b) => a - b)
  const result = { type: irqs.type, vector, fired: times, arrived: took.length }
  if (took.length === 0) return result
  return { ...result, medianNs: took[took.length >> 1]!, maxNs: took.at(-1)! }
}

async function ofNode(target: string, flags: IrqFlags): Promise<void> {
  if (flags.test) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${target} is served, and its driver handles its interrupts: --test is for a device that nobody serves.`,
    )
  }
  const signal = interrupted()
  await withNode(target, flags, async (client) => {
    let before: { atNs: bigint; fired: ReadonlyMap<string, number> } | undefined
    for (let round = 1; !signal.aborted; round++) {
      const snapshot = await ask(client, { kinds: [], attributes: ['irqs'] }, { timeoutMs: PATIENCE_MS })
      const vectors = interruptsOf(snapshot) ?? []
      const elapsedS = before && Number(snapshot.atNs - before.atNs) / 1e9
      const rows = vectors.map(({ vector, type, counts }) => {
        const last = before?.fired.get(vector)
        const perSecond =
          elapsedS === undefined || last === undefined || counts.fired === undefined
            ? undefined
            : (counts.fired - last) / elapsedS
        return { vector: Number(vector), type, ...counts, ...(perSecond === undefined ? {} : { perSecond }) }
      })
      printNode(target, rows, flags)
      before = {
        atNs: snapshot.atNs,
        fired: new Map(vectors.map(({ vector, counts }) => [vector, counts.fired ?? 0])),
      }
      if (flags.loop === undefined || round === flags.count) break
      await pause(flags.loop * 1000, signal)
    }
  })
}

interface NodeVector {
  readonly vector: number
  readonly type: string | undefined
  readonly fired?: number
  readonly handled?: number
  readonly coalesced?: number
  readonly perSecond?: number
}

function printNode(node: string, vectors: readonly NodeVector[], { json, loop }: IrqFlags): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ node, vectors }, undefined, loop === undefined ? 2 : 0)}\n`)
    return
  }
  if (vectors.length === 0) {
    process.stdout.write(`${node} tells of no interrupts.\n`)
    return
  }
  const cell = (value: number | undefined) => (value === undefined ? '-' : `${Math.round(value)}`)
  const head = [
    'VECTOR',
    'KIND',
    'FIRED',
    'HANDLED',
    'COALESCED',
    ...(loop === undefined ? [] : ['PER SECOND']),
  ]
  const rows = vectors.map(({ vector, type, fired, handled, coalesced, perSecond }) => [
    `${vector}`,
    clean(type ?? '-'),
    ...[fired, handled, coalesced].map(cell),
    ...(loop === undefined ? [] : [cell(perSecond)]),
  ])
  process.stdout.write(table(head, rows))
}
