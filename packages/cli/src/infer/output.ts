import { accessSync, constants, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import type { Tensor } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { toNpy } from './npy.js'

type Outputs = Readonly<Record<string, Tensor>>

/** A file for outputs: all of them, or one. */
export interface OutputFile {
  readonly path: string
  /** Absent where the file takes all. */
  readonly name?: string
}

/** Elements that JSON has: integers beyond 2^53 are strings, and so are NaN and the infinities. */
const element = (value: number | bigint): number | string =>
  typeof value === 'bigint' || !Number.isFinite(value) ? `${value}` : value

/** Outputs by name, each with its `dtype`, `shape`, and `data`, flat. */
export const printable = (outputs: Outputs): object =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, { dtype, shape, data }]) => [
      name,
      { dtype, shape, data: Array.from(data as ArrayLike<number | bigint>, element) },
    ]),
  )

const bytesOf = ({ data }: Tensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

/** By the ending of the file. */
const forms: Readonly<Record<string, ((tensor: Tensor) => string | Uint8Array) | 'all'>> = {
  '.npy': toNpy,
  '.bin': bytesOf,
  '.json': 'all',
}

/** A file as its folder has it, by whatever way it is named; where there is no such folder, as it is named. */
function placeOf(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path))
  } catch {
    return path
  }
}

/**
 * Reads `--output`, and looks whether it can be written: before anything runs.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT an output that the model has not, a kind of file that is not written, none to write to, one that is named twice, or one of `read`
 * @throws ERR_ACCEL_NOT_FOUND no such folder
 * @throws ERR_ACCEL_PERMISSION this user may not write there
 */
export function outputFiles(
  given: readonly string[],
  names: readonly string[],
  read: readonly string[],
): OutputFile[] {
  const taken = new Set(read.map(placeOf))
  const written = new Set<string>()
  return given.map((text) => {
    const named = names.find((name) => text.startsWith(`${name}=`))
    const path = named === undefined ? text : text.slice(named.length + 1)
    const invalid = (why: string) => accelError('ERR_ACCEL_INVALID_ARGUMENT', why)
    const other = named === undefined ? /^([\w./:-]+)=/.exec(text) : null
    if (other) throw invalid(`The model has no output ${other[1]}; it computes ${names.join(', ')}.`)
    const form = forms[extname(path).toLowerCase()]
    if (form === undefined)
      throw invalid(
        `${path}: outputs are written as ${Object.keys(forms).join(', ')}, by the ending of the file.`,
      )
    if (form !== 'all' && named === undefined && names.length > 1)
      throw invalid(
        `The model has the outputs ${names.join(', ')}, and ${path} takes one: NAME=${path}, or a .json.`,
      )
    checkFolder(path)
    const place = placeOf(path)
    if (taken.has(place))
      throw invalid(`${path} is read, and would be lost: name another file for the output.`)
    if (written.has(place)) throw invalid(`${path} is named for two outputs: each wants a file of its own.`)
    written.add(place)
    const name = named ?? (form === 'all' ? undefined : names[0])
    return { path, ...(name === undefined ? {} : { name }) }
  })
}

function checkFolder(path: string): void {
  const folder = dirname(path)
  const found = statSync(folder, { throwIfNoEntry: false })
  if (!found?.isDirectory())
    throw accelError('ERR_ACCEL_NOT_FOUND', `${path} cannot be written: there is no folder ${folder}.`)
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} cannot be written: it is a folder.`)
  try {
    accessSync(folder, constants.W_OK)
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `${path} cannot be written: this user may not write into ${folder}.`,
      {
        cause,
      },
    )
  }
}

/** Writes outputs: all files are there whole before the first takes its place. `ERR_ACCEL_SYSTEM` where they cannot be. */
export function writeOutputs(files: readonly OutputFile[], outputs: Outputs): void {
  const partial = (path: string) => `${path}.${process.pid}.part`
  let current = ''
  try {
    for (const { path, name } of files) {
      current = path
      const form = forms[extname(path).toLowerCase()]!
      const selected = name === undefined ? outputs : Object.fromEntries([[name, outputs[name]!]])
      const content = form === 'all' ? `${JSON.stringify(printable(selected))}\n` : form(outputs[name!]!)
      writeFileSync(partial(path), content, { flag: 'wx' })
    }
    for (const { path } of files) {
      current = path
      renameSync(partial(path), path)
    }
  } catch (cause) {
    for (const { path } of files) rmSync(partial(path), { force: true })
    throw accelError('ERR_ACCEL_SYSTEM', `${current} cannot be written: ${(cause as Error).message}`, {
      cause,
    })
  }
}
