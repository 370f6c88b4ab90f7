import type { RegisterEntry, RegisterMap } from '../../registers.js'
import type { MeantField } from './fields.js'

/** What a register map of a capability may depend on. */
export interface Structure {
  /** The header's layout: 0 a function, 1 a bridge. */
  readonly layout: number
  /** Version in the header of an extended capability; 0 of others. */
  readonly version: number
  /** Device/port type of the PCI Express capability, where there is one. */
  readonly pcieType: number | undefined
  /** Its registers: always the same, or chosen by what it says itself. */
  readonly registers: RegisterMap | ((bytes: DataView, structure: Structure) => readonly RegisterMap[])
}

/** A register of config space, read and decoded. */
export interface ConfigRegister {
  /** As include/uapi/linux/pci_regs.h names it, without the prefix of its capability. */
  readonly name: string
  /** In config space, in bytes. */
  readonly offset: number
  /** In bits: 8, 16 or 32. */
  readonly width: number
  readonly raw: number
  /** By name; sizes and counts are numbers in the unit that the name ends with. Bits that are reserved are not there. */
  readonly fields: Readonly<Record<string, number | boolean | string>>
}

/** The 16 bits there; 0 beyond the end. */
export function peek(bytes: DataView, offset: number): number {
  return offset + 2 <= bytes.byteLength ? bytes.getUint16(offset, true) : 0
}

/** Reads the registers of a structure that begins at `at` and reaches to the end of `space` at most; those beyond it are left out. */
export function readRegisters(space: DataView, at: number, structure: Structure): ConfigRegister[] {
  const bytes = new DataView(space.buffer, space.byteOffset + at, space.byteLength - at)
  const maps =
    typeof structure.registers === 'function' ? structure.registers(bytes, structure) : [structure.registers]
  return maps.flatMap(({ entries }) =>
    entries
      .filter(({ offset, width }) => offset + width / 8 <= bytes.byteLength)
      .map((entry) => read(bytes, at, entry)),
  )
}

function read(
  bytes: DataView,
  at: number,
  { name, offset, width, fields, codec }: RegisterEntry,
): ConfigRegister {
  const raw =
    width === 8
      ? bytes.getUint8(offset)
      : width === 16
        ? bytes.getUint16(offset, true)
        : bytes.getUint32(offset, true)
  const values = codec.decode(raw)
  for (const [field, definition] of Object.entries(fields)) {
    const { meaning } = definition as Partial<MeantField>
    if (meaning !== undefined) values[field] = meaning(values[field] as number)
  }
  return { name, offset: at + offset, width, raw, fields: values }
}
