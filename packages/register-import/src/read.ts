import { type Description, type Format, wrongAt } from './description.js'
import { readText } from './files.js'
import { readIpxact } from './ipxact.js'
import { readRdl } from './rdl/read.js'
import { readSvd } from './svd.js'

/** How a file is read. */
export interface ReadOptions {
  /** Told by what the file begins with where it is absent. */
  readonly format?: Format
  /** Of a SystemRDL file: the address map that is at the top; its last one where this is absent. */
  readonly top?: string
}

/**
 * Reads a file of registers.
 *
 * @throws ERR_ACCEL_NOT_FOUND for no such file, or no such address map; ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE or
 * ERR_ACCEL_UNSUPPORTED, with file, line and column, for what it says
 */
export function readRegisterFile(path: string, options: ReadOptions = {}): Description {
  return readRegisterText(path, readText(path), options)
}

/** {@link readRegisterFile} of a text that was read already; `path` is what errors call it, and where a SystemRDL file includes from. */
export function readRegisterText(
  path: string,
  text: string,
  { format = formatOf(path, text), top }: ReadOptions = {},
): Description {
  if (format === 'svd') return readSvd(path, text)
  return format === 'ipxact' ? readIpxact(path, text) : readRdl(path, text, top)
}

/** What each SystemRDL file has one of (Accellera SystemRDL 2.0, section 5), unless it includes all that it is. */
const RDL_WORD = /\b(?:addrmap|regfile|reg|field|mem|signal|property)\b|`include\b/

/** XML has its first element's name, and SystemRDL is none. */
function formatOf(path: string, text: string): Format {
  if (!/^\s*</.test(text.replace(/^\ufeff/, ''))) {
    if (/\.(svd|xml)$/i.test(path))
      throw wrongAt(
        { file: path, line: 1, column: 1 },
        'it does not begin as XML does; --format says what it is',
      )
    if (!/\.rdl$/i.test(path) && !RDL_WORD.test(text))
      throw wrongAt(
        { file: path, line: 1, column: 1 },
        'it is no SystemRDL, IP-XACT or CMSIS-SVD; --format says which, where it is one all the same',
      )
    return 'rdl'
  }
  const root = /<(?:[\w.-]+:)?(device|component)[\s>/]/.exec(text)
  if (root) return root[1] === 'device' ? 'svd' : 'ipxact'
  throw wrongAt(
    { file: path, line: 1, column: 1 },
    'it is XML, and neither a <device> of CMSIS-SVD nor a <component> of IP-XACT',
  )
}
