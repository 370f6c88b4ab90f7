import { readFileSync } from 'node:fs'

/** Where distributions keep the database: Debian, then Fedora and SUSE. */
const defaultFiles = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids']

/** Names of vendors, devices and classes from a pci.ids file (format: its own header, https://pci-ids.ucw.cz). */
export class PciNames {
  readonly #vendors = new Map<number, string>()
  readonly #devices = new Map<number, string>()
  readonly #classes = new Map<number, string>()
  readonly #subclasses = new Map<number, string>()

  /** @param text The file. Lines that it should not hold are passed over. */
  constructor(text: string) {
    let vendor: number | undefined
    let base: number | undefined
    for (const line of text.split('\n')) {
      const match = /^(\t{0,2})(C )?([0-9a-f]{2,4}) {2}(.+)$/.exec(line)
      if (match === null) continue
      const [, indent, isClass, digits, name] = match
      const id = Number.parseInt(digits, 16)
      if (indent === '' && isClass !== undefined) {
        base = id
        vendor = undefined
        this.#classes.set(id, name)
      } else if (indent === '') {
        vendor = id
        base = undefined
        this.#vendors.set(id, name)
      } else if (vendor !== undefined) {
        if (indent === '\t') this.#devices.set(vendor * 0x1_0000 + id, name)
      } else if (base !== undefined && indent === '\t') {
        this.#subclasses.set((base << 8) | id, name)
      }
    }
  }

  vendor(vendor: number): string | undefined {
    return this.#vendors.get(vendor)
  }

  device(vendor: number, device: number): string | undefined {
    return this.#devices.get(vendor * 0x1_0000 + device)
  }

  /** The subclass's name, or that of the base class. @param classCode 0xBBSSPP */
  classOf(classCode: number): string | undefined {
    return this.#subclasses.get(classCode >>> 8) ?? this.#classes.get(classCode >>> 16)
  }
}

let cached: { readonly names: PciNames | undefined } | undefined

/** The machine's database, read once and only when asked for. `undefined` where there is none. */
export function pciNames(files: readonly string[] = defaultFiles): PciNames | undefined {
  if (files !== defaultFiles) return load(files)
  cached ??= { names: load(files) }
  return cached.names
}

function load(files: readonly string[]): PciNames | undefined {
  for (const file of files) {
    try {
      return new PciNames(readFileSync(file, 'utf8'))
    } catch {
      // the next one
    }
  }
  return undefined
}
