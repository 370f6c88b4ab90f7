import { abi, getSealsOrNone, Mapping, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'

/** A file larger than this is mapped in parts of it: one view holds no more in Node 20 (`buffer.constants.MAX_LENGTH`). */
export const PART_BYTES = 2 ** 32
/** What files may take of this process. Unless told: */
export interface SharedFilesLimits {
  /** Half of the mappings that the kernel gives a process (vm.max_map_count, 65530): one that has none left cannot allocate either. */
  readonly maxMappings?: number
  /** 1 TiB: V8 collects garbage for each 64 MiB or so that are put under a view, which took 10 ms for 4 GiB. */
  readonly maxBytes?: number
}

/** One mapping of a file, for all ranges of it that devices reach with the same access. */
export interface SharedFile {
  /** The file's bytes, in parts of {@link PART_BYTES}; those that no range needed yet are absent. */
  readonly parts: readonly (Mapping | undefined)[]
}

interface OpenFile extends SharedFile {
  readonly key: string
  readonly sizeBytes: number
  readonly parts: (Mapping | undefined)[]
  ranges: number
}

/**
 * The files behind a device's memory. Behind a virtual IOMMU each page of a guest arrives by itself, with a descriptor of its own
 * of always the same file; to map each page would cost a kernel mapping each.
 *
 * A file is mapped once to be read and once to be written, so that a range which may only be read has no writable view, and a
 * descriptor that was opened for reading gets none by way of another.
 */
export class SharedFiles {
  readonly #files = new Map<string, OpenFile>()
  readonly #label: string
  readonly #maxMappings: number
  readonly #maxBytes: number
  #mappings = 0
  #mappedBytes = 0

  constructor(label: string, { maxMappings = 32_768, maxBytes = 2 ** 40 }: SharedFilesLimits = {}) {
    this.#label = label
    this.#maxMappings = maxMappings
    this.#maxBytes = maxBytes
  }

  /**
   * Maps the parts of a file that a range of whole pages lies in. The descriptor is not needed afterwards. Each answer is given back to
   * {@link close}.
   *
   * @throws ERR_ACCEL_OUT_OF_RANGE behind the end of the file; ERR_ACCEL_PERMISSION the descriptor or a seal does not allow the access;
   *   ERR_ACCEL_MAPPING_LIMIT
   */
  open(fd: number, offset: number, sizeBytes: number, writable: boolean): SharedFile {
    const { id, sizeBytes: fileBytes, blockBytes } = sys.identify(fd)
    if (offset + sizeBytes > fileBytes) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `The file has ${fileBytes} bytes; ${sizeBytes} at ${offset} were to be mapped.`,
      )
    }
    requireAccess(fd, writable)
    const key = `${id} ${writable ? 'rw' : 'r'}`
    const found = this.#files.get(key)
    // A file that has grown since is mapped anew: the ranges that there are keep what they have.
    const file =
      found !== undefined && offset + sizeBytes <= found.sizeBytes
        ? found
        : { key, sizeBytes: fileBytes - (fileBytes % abi.PAGE_SIZE_BYTES), parts: [], ranges: 0 }
    file.ranges++
    try {
      for (let part = Math.floor(offset / PART_BYTES); part * PART_BYTES < offset + sizeBytes; part++)
        file.parts[part] ??= this.#map(fd, file, part, writable, blockBytes)
    } catch (error) {
      this.close(file)
      throw error
    }
    this.#files.set(key, file)
    return file
  }

  /** Gives back what {@link open} answered. The last range of a file unmaps it. */
  close(file: SharedFile): void {
    const open = file as OpenFile
    if (--open.ranges > 0) return
    if (this.#files.get(open.key) === open) this.#files.delete(open.key)
    for (const mapping of open.parts) {
      if (mapping === undefined) continue
      mapping.revoke()
      this.#mappings--
      this.#mappedBytes -= mapping.sizeBytes
    }
  }

  #map(fd: number, file: OpenFile, part: number, writable: boolean, blockBytes: number): Mapping {
    const offset = part * PART_BYTES
    const sizeBytes = Math.min(PART_BYTES, file.sizeBytes - offset)
    if (this.#mappings >= this.#maxMappings || this.#mappedBytes + sizeBytes > this.#maxBytes) {
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `${this.#mappings} mappings of ${this.#mappedBytes} bytes in all are there: one of ${sizeBytes} more is refused. Use fewer, smaller files.`,
        { details: { mappings: this.#mappings, mappedBytes: this.#mappedBytes }, errno: 'ENOSPC' },
      )
    }
    const mapping = Mapping.map({
      fd,
      offset,
      sizeBytes,
      prot: writable ? abi.PROT_READ | abi.PROT_WRITE : abi.PROT_READ,
      dontFork: true,
      // a file of huge pages can be mapped at no other address
      alignBytes: Number.isInteger(Math.log2(blockBytes))
        ? Math.max(blockBytes, abi.PAGE_SIZE_BYTES)
        : abi.PAGE_SIZE_BYTES,
      label: this.#label,
    })
    this.#mappings++
    this.#mappedBytes += sizeBytes
    return mapping
  }
}

/** What mmap would check, for a file that is mapped already: a descriptor's access is its own. */
function requireAccess(fd: number, writable: boolean): void {
  const flags = sys.getFlags(fd) & (abi.O_ACCMODE | abi.O_PATH)
  const allowed = flags === abi.O_RDWR || (flags === abi.O_RDONLY && !writable)
  const sealed = writable && (getSealsOrNone(fd) & (abi.F_SEAL_WRITE | abi.F_SEAL_FUTURE_WRITE)) !== 0
  if (allowed && !sealed) return
  throw accelError(
    'ERR_ACCEL_PERMISSION',
    `The device was to ${writable ? 'write' : 'read'} memory ${sealed ? 'that is sealed against it' : 'whose descriptor was not opened for it'}.`,
    { errno: 'EACCES' },
  )
}
