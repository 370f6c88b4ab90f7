import { errorCode } from '@uaccel/uapi'
import type { AttributeDefinition, AttributeDefinitions, AttributeValue } from './attributes.js'
import type { AccelNode } from './node.js'
import { countersOf, identityOf } from './query.js'

/** Fields of the identity that are told in hexadecimal, and their digits; what else has no such numbers has none of them. */
const pciDigits: Readonly<Record<string, number>> = {
  vendor: 4,
  device: 4,
  subsystemVendor: 4,
  subsystem: 4,
  classCode: 6,
  revision: 2,
}

const text = (value: AttributeValue): AttributeDefinition => ({ show: () => value })
const integer = (value: AttributeValue, unit = ''): AttributeDefinition => ({
  show: () => value,
  type: 'integer',
  unit,
})

/** The attributes that every device has, as of now. */
export function commonAttributes(node: AccelNode): AttributeDefinitions {
  const { irqs, dmaUse } = node.device ?? {}
  const attributes: Record<string, AttributeDefinition> = {
    // These can be watched: their value is of the moment that it is shown, and so of their revision or a later one.
    state: { show: () => node.status.state },
    'opens/current': { show: () => node.opens.size, type: 'integer' },
  }
  const { known, ...identity } = identityOf(node)
  for (const [name, value] of Object.entries(identity)) {
    const digits = pciDigits[name]
    if (value === '' || (digits !== undefined && !known.pci)) continue
    const shown = digits === undefined ? `${value}` : `0x${value.toString(16).padStart(digits, '0')}`
    attributes[`identity/${name}`] = text(shown)
  }
  const { errors, ...counters } = countersOf(node)
  for (const [name, value] of Object.entries(counters)) attributes[`counters/${name}`] = integer(value)
  for (const { error, count } of errors) attributes[`counters/errors/${errorCode(error)}`] = integer(count)
  if (irqs) {
    attributes['irqs/type'] = text(irqs.type)
    attributes['irqs/vectors'] = integer(irqs.count)
    for (let vector = 0; vector < irqs.count; vector++) {
      if (!irqs.counted(vector)) continue
      for (const [name, count] of Object.entries(irqs.counts(vector)))
        attributes[`irqs/${vector}/${name}`] = integer(count)
    }
  }
  if (dmaUse) {
    attributes['dma/mappings'] = integer(dmaUse.mappings)
    attributes['dma/mappedBytes'] = integer(dmaUse.mappedBytes, 'bytes')
  }
  return attributes
}
