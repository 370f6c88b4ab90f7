/** Bytes of a file that are read: the largest public SVD files have some 20 MiB. */
export const MAX_FILE_BYTES = 64 * 2 ** 20
/** Registers of a file, arrays spelt out. */
export const MAX_REGISTERS = 2 ** 18
/** How deep elements, components and expressions may stand in each other. */
export const MAX_DEPTH = 64
