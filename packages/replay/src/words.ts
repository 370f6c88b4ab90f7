import { irqTypes, resetKinds } from '@uaccel/core'
import { Kind, kindNameOf } from './kinds.js'
import { RegisterNames, regionName } from './names.js'
import { accessBytes } from './progress.js'
import { ends, type Session, type Step } from './session.js'

/** Bytes of memory that a message shows. */
const SHOWN_BYTES = 16

/** An access, in words: `write of STATUS (BAR 0 + 0x20) = 0x80 (computing=false irqOnDone=true)`. */
export function describeAccess(
  names: RegisterNames,
  reading: boolean,
  place: { readonly region: number; readonly offset: number; readonly width: number },
  value?: bigint | Uint8Array,
): string {
  const where = `${reading ? 'read' : 'write'} of ${names.place(place, reading)}`
  if (value === undefined) return where
  return `${where} = ${typeof value === 'bigint' ? names.value(place, reading, value) : showBytes(value)}`
}

/** The first bytes, in hexadecimal. */
export function showBytes(bytes: Uint8Array): string {
  const shown = Buffer.from(bytes.subarray(0, SHOWN_BYTES))
    .toString('hex')
    .replace(/(..)(?=.)/g, '$1 ')
  return bytes.length > SHOWN_BYTES ? `${shown} ... (${bytes.length} bytes)` : shown
}

/** A step, in words. A read is told with what it answered where `answered` is set. */
export function describeStep(names: RegisterNames, step: Step, answered = false): string {
  const { kind, index, id, width, a, b, payload } = step
  switch (kind) {
    case Kind.mmioRead:
    case Kind.mmioWrite: {
      const reading = kind === Kind.mmioRead
      const value = width === 0 ? payload : b
      const place = { region: index, offset: a, width: accessBytes(step) }
      return describeAccess(names, reading, place, reading && !answered ? undefined : value)
    }
    case Kind.irq:
      return `interrupt ${irqTypes[id]} ${index}${b > 1n ? `, ${b} times` : ''}`
    case Kind.irqArm:
      return `${b} vector(s) of ${irqTypes[id]} taken`
    case Kind.irqDisarm:
      return `the vectors of ${irqTypes[id]} given back`
    case Kind.irqMask:
      return `${irqTypes[id]} ${index} ${width === 1 ? 'masked' : 'unmasked'}`
    case Kind.dmaMap:
      return `DMA mapping ${id} of ${b} bytes at IOVA 0x${a.toString(16)}`
    case Kind.dmaUnmap:
      return `DMA mapping ${id} taken back`
    case Kind.deviceMemory:
    case Kind.driverMemory:
      return `${kind === Kind.deviceMemory ? 'device' : 'driver'} put ${showBytes(payload)} at offset 0x${a.toString(16)} of DMA mapping ${id}`
    case Kind.resetBegin:
      return `a ${resetKinds[index]} reset`
    case Kind.reset:
      return `the ${resetKinds[index]} reset is done`
    case Kind.power:
      return width === 1 ? 'the device put to sleep' : 'the device woken'
    case Kind.lost:
    case Kind.request:
    case Kind.failed:
      return `${kind === Kind.lost ? 'the device was lost' : kind === Kind.request ? 'the device was wanted back' : 'it failed'}: ${payload.toString()}`
    case Kind.registers:
      return `what the driver calls the registers of ${regionName(index)}`
    case Kind.unobserved:
      return `what DMA mapping ${id} holds is not recorded`
    case Kind.end:
      return `the session ended, ${ends[a] ?? a}`
    default:
      return kindNameOf(kind) ?? `kind ${kind}`
  }
}

/** Where in a session a step is: `step 41 of 230, 1.204 s into the session`. */
export function describePlace({ steps }: Session, step: Step): string {
  const seconds = Number(step.timeNs - (steps[0]?.timeNs ?? 0n)) / 1e9
  return `step ${step.number} of ${steps.length}, ${seconds.toFixed(3)} s into the session`
}

/** A session in words, a line for each step: number, time in s, what happened. */
export function* listSession(session: Session): Generator<string> {
  const names = new RegisterNames()
  for (const [region, map] of session.registers) names.set(region, map)
  const first = session.steps[0]?.timeNs ?? 0n
  for (const step of session.steps) {
    const seconds = Number(step.timeNs - first) / 1e9
    yield `${`${step.number}`.padStart(6)} ${seconds.toFixed(6).padStart(12)}  ${describeStep(names, step, true)}`
  }
}
