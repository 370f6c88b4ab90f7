import { type IrqInfo, type IrqType, irqTypes, type Transport } from '@uaccel/core'

/** The same transport, but to a device that has no interrupts besides those of `types`. */
export function withIrqs(transport: Transport, types: readonly IrqType[]): Transport {
  const irqs = Object.fromEntries(
    irqTypes.map((type) => [
      type,
      types.includes(type) ? transport.irqs[type] : { ...transport.irqs[type], count: 0 },
    ]),
  ) as Record<IrqType, IrqInfo>
  return new Proxy(transport, {
    get(target, key) {
      if (key === 'irqs') return irqs
      const member: unknown = Reflect.get(target, key, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
