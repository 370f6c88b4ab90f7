import { pciCapability } from './constants.js'
import {
  type ConfigCapability,
  type ConfigSpaceInfo,
  decodeConfigSpace,
  type ExtendedCapability,
} from './decode.js'
import { type ConfigRegister, readRegisters, type Structure } from './registers/capability.js'
import { extendedRegisters } from './registers/extended.js'
import { bridgeHeader, endpointHeader } from './registers/header.js'
import { standardRegisters } from './registers/standard.js'

/** Config space with every register of its header and of the capabilities that are known. */
export interface ConfigDescription extends ConfigSpaceInfo {
  /** Registers of the header; none of a layout that is neither a function's nor a bridge's. */
  readonly header: readonly ConfigRegister[]
  readonly capabilities: readonly (ConfigCapability & { readonly registers: readonly ConfigRegister[] })[]
  readonly extendedCapabilities: readonly (ExtendedCapability & {
    readonly registers: readonly ConfigRegister[]
  })[]
}

const headers: Readonly<Record<number, Structure['registers']>> = { 0: endpointHeader, 1: bridgeHeader }
const none: Structure['registers'] = () => []

/**
 * As {@link decodeConfigSpace}, and all registers field by field: what `lspci -vvv` tells. Registers that do not lie within the bytes
 * that were read are left out; so is what capabilities hold that only their vendor knows.
 */
export function describeConfigSpace(bytes: Uint8Array): ConfigDescription {
  const info = decodeConfigSpace(bytes)
  const space = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // Capabilities of the first list end with it, whatever they say.
  const first = new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 0x100))
  const pcie = info.capabilities.find(({ id }) => id === pciCapability.pcie)?.offset
  const structure = {
    layout: info.headerType,
    version: 0,
    pcieType:
      pcie === undefined || pcie + 4 > first.byteLength ? undefined : (first.getUint8(pcie + 2) >> 4) & 15,
  }
  return {
    ...info,
    header: readRegisters(first, 0, { ...structure, registers: headers[info.headerType] ?? none }),
    capabilities: info.capabilities.map((capability) => ({
      ...capability,
      registers: readRegisters(first, capability.offset, {
        ...structure,
        registers: standardRegisters[capability.id] ?? none,
      }),
    })),
    extendedCapabilities: info.extendedCapabilities.map((capability) => ({
      ...capability,
      registers: readRegisters(space, capability.offset, {
        ...structure,
        version: capability.version,
        registers: extendedRegisters[capability.id] ?? none,
      }),
    })),
  }
}
