import { Accel, type DmaReport, testDma } from '@uaccel/accel'
import type { NoIommuOptions } from '@uaccel/core'
import { DmaDomain } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { known, knownById } from '../drivers.js'
import { exitCodes, hex, printJson } from '../output.js'
import { allowNoIommu, openTarget, targetHelp } from '../target.js'
import { clean } from '../text.js'
import { human } from '../units.js'
import { interrupted } from './loop.js'

interface DmaTestFlags extends NoIommuOptions {
  json?: boolean
}

/** What was found, and what the driver says of it. */
interface Result extends DmaReport {
  readonly device: string
  readonly driver: string
  /** Address bits that the driver allows itself (`setDmaAddressBits`). */
  readonly driverBits: number
}

/** `uaccel dma-test`: whether a device's own copy gets bytes right, and which addresses it can reach. */
export function dmaTestCommand(command: Command): void {
  command
    .argument('<device>', targetHelp)
    .option('--json', 'as JSON')
    .option(...allowNoIommu)
    .addHelpText(
      'after',
      `
Buffers of many sizes and places go through the device's own copy; each is
compared, with the bytes around it. Then memory is mapped at 2^16, 2^17, ... to
find the first address bit that the device does not drive. An IOMMU keeps what
goes astray from other memory. The device is reset when it is given back.

The copy is the driver's: \`dmaTest\` in what its probe answers. Here
edu and npu have one. It ends with 1 where a byte was wrong, or the driver allows addresses
that the device does not drive.

Examples:
  uaccel dma-test 00:05.0
  uaccel dma-test ./npu.sock --json | jq .width.bits`,
    )
    .action(run)
}

async function run(target: string, { json, ...how }: DmaTestFlags): Promise<void> {
  const signal = interrupted()
  const transport = await openTarget(target, how)
  const accel = new Accel()
  for (const { driver } of Object.values(known)) accel.register(driver)
  let domain: DmaDomain | undefined
  let result: Result
  try {
    const node = await accel.add(transport)
    const { dmaTest: tester, dmaAddressBits: driverBits = 64 } = node
    const driver = knownById(node.identity)?.name ?? node.driver.name
    if (tester === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The driver ${driver} has no copy to test ${target} with: its probe would have to answer \`dmaTest\`.`,
      )
    }
    domain = new DmaDomain(transport.dma)
    const showing = !json && process.stderr.isTTY
    const onCopy = (done: number) => showing && process.stderr.write(`\r${done} copies `)
    const report = await testDma(tester, domain, { signal, onCopy })
    if (showing) process.stderr.write('\r\x1b[K')
    result = { device: target, driver, driverBits, ...report }
  } finally {
    await accel.close() // and only then is memory taken from a device that may still be at it
    domain?.destroy()
  }
  if (result.fault || tooWide(result)) process.exitCode = exitCodes.failed.code
  if (json) printJson(result)
  else process.stdout.write(`${lines(result).join('\n')}\n`)
}

const tooWide = ({ width, driverBits }: Result) => width?.exact === true && driverBits > width.bits

function lines(result: Result): string[] {
  const { device, driver, copies, bytes, fault, width, driverBits } = result
  const head = `${device} (${driver}): ${copies} copies, ${human(bytes, 'bytes')}`
  if (fault) {
    const { from, to, sizeBytes, where, at = 0, wanted = 0, found = 0, message = '' } = fault
    const start = where === 'source' ? from : to
    const place =
      where === 'failed'
        ? clean(message)
        : `byte ${at} of the ${where === 'source' ? 'source, which was not to change' : where === 'inside' ? 'target' : 'target, outside of it'}, at ${hex(start + BigInt(at))}, is ${hex(found, 2)}, wanted ${hex(wanted, 2)}`
    return [`${head}; the last was wrong`, `  ${sizeBytes} bytes from ${hex(from)} to ${hex(to)}: ${place}`]
  }
  const all = [head, '  Every byte arrived, none was written beside, no source was changed.']
  if (width === undefined) return [...all, '  No IOMMU translates here: addresses are those that memory has.']
  all.push(
    width.exact
      ? `  The device drives ${width.bits} address bits.`
      : `  The device drives ${width.bits} address bits at least; higher addresses could not be mapped.`,
  )
  if (width.beyond) {
    const { access, iova, outcome, alias = 0n, message = '' } = width.beyond
    const did = access === 'read' ? 'a read of' : 'a write to'
    all.push(
      outcome === 'aliased'
        ? `  ${did} ${hex(iova)} went to ${hex(alias)}.`
        : outcome === 'lost'
          ? `  ${did} ${hex(iova)} did not get there.`
          : `  ${did} ${hex(iova)} failed: ${clean(message)}`,
    )
  }
  if (tooWide(result))
    all.push(`  The driver allows ${driverBits} bits: setDmaAddressBits(${width.bits}) before dma is used.`)
  return all
}
