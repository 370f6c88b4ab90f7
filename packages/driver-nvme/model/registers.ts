import { type RegisterBank, registerBank } from '@uaccel/model'

/** What the registers need of the controller. */
export interface RegisterHost {
  readonly capabilities: bigint
  enable(on: boolean): void
  shutDown(): void
  violation(message: string): void
  /** Bits of CSTS. */
  status(): number
  readonly enabled: boolean
}

export type Names = 'controllerConfiguration' | 'adminAttributes' | 'adminSubmission' | 'adminCompletion'

// NVM Express base specification 1.4, section 3.1, in its words.
const ENABLE = 0x1
const SHUTDOWN_MASK = 0xc000
const RESERVED_CONFIGURATION = 0xff00_000e
/** 64-byte and 16-byte entries, pages of 4 KiB, the NVM command set, round robin: all that this controller has. */
const ENTRY_SIZES = 0x0046_0000
const VERSION_1_4 = 0x0001_0400

/** The registers below the doorbells. */
export function controllerRegisters(host: RegisterHost): RegisterBank<string> {
  /** Registers of eight bytes may be accessed in halves by the specification; this controller wants them whole. */
  const setUp = (name: string) => (value: number | bigint) => {
    if (host.enabled) host.violation(`${name} was written while CC.EN is 1`)
    else bank.set(name, value)
  }
  function configure(value: number): void {
    const before = bank.get('controllerConfiguration')
    if (value & RESERVED_CONFIGURATION)
      host.violation(`CC was written with reserved bits: 0x${value.toString(16)}`)
    bank.set('controllerConfiguration', value)
    const on = (value & ENABLE) !== 0
    if (on && !(before & ENABLE)) {
      if ((value & 0x00ff_fff0 & ~SHUTDOWN_MASK) !== ENTRY_SIZES)
        host.violation(`CC was enabled with sizes that are not offered: 0x${value.toString(16)}`)
      host.enable(true)
    }
    if (!on && before & ENABLE) host.enable(false)
    if ((value & SHUTDOWN_MASK) !== 0 && (before & SHUTDOWN_MASK) === 0) host.shutDown()
  }
  const bank: RegisterBank<string> = registerBank([
    { name: 'capabilities', offset: 0x00, width: 8, access: 'ro', read: () => host.capabilities },
    { name: 'version', offset: 0x08, width: 4, access: 'ro', reset: VERSION_1_4 },
    { name: 'controllerConfiguration', offset: 0x14, width: 4, access: 'rw', write: configure },
    { name: 'controllerStatus', offset: 0x1c, width: 4, access: 'ro', read: () => host.status() },
    { name: 'adminAttributes', offset: 0x24, width: 4, access: 'rw', write: setUp('adminAttributes') },
    { name: 'adminSubmission', offset: 0x28, width: 8, access: 'rw', write: setUp('adminSubmission') },
    { name: 'adminCompletion', offset: 0x30, width: 8, access: 'rw', write: setUp('adminCompletion') },
  ])
  return bank
}
