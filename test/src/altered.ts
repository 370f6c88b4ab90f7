import type { AccessWidth, Transport } from '@uaccel/core'

/** What a write is turned into. */
export type Alter = (offset: number, value: number) => { readonly offset: number; readonly value: number }

/** A transport whose driver was changed: writes of 4 bytes to BAR 0 become what `alter` makes of them. */
export function altered<T extends Transport>(transport: T, alter: Alter): T {
  const write = (region: number, offset: number, width: AccessWidth, value: number) => {
    const to = region === 0 && width === 4 ? alter(offset, value) : { offset, value }
    transport.write(region, to.offset, width, to.value)
  }
  return new Proxy(transport, {
    get(target, key) {
      if (key === 'write') return write
      const member: unknown = Reflect.get(target, key, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
