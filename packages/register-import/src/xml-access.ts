import { type BitAccess, type Place, type ReadEffect, type WriteEffect, wrongAt } from './description.js'

/** CMSIS-SVD, element `access`: what may be read, what may be written. */
const accesses: Readonly<Record<string, readonly [read: boolean, write: boolean, once: boolean]>> = {
  'read-only': [true, false, false],
  'write-only': [false, true, false],
  'read-write': [true, true, false],
  writeOnce: [false, true, true],
  'read-writeOnce': [true, true, true],
  'no-access': [false, false, false], // IP-XACT 2022
}

/** CMSIS-SVD and IP-XACT, element `modifiedWriteValue(s)`. */
const writes: Readonly<Record<string, WriteEffect>> = {
  oneToClear: 'oneClears',
  oneToSet: 'oneSets',
  oneToToggle: 'oneToggles',
  zeroToClear: 'zeroClears',
  zeroToSet: 'zeroSets',
  zeroToToggle: 'zeroToggles',
  clear: 'clears',
  set: 'sets',
  modify: 'plain',
}

/** CMSIS-SVD and IP-XACT, element `readAction`. `modifyExternal` changes something besides the field. */
const reads: Readonly<Record<string, ReadEffect>> = {
  clear: 'clears',
  set: 'sets',
  modify: 'other',
  modifyExternal: 'other',
}

/** The words of SVD and IP-XACT for how bits may be touched, in ours. */
export function bitAccess(
  place: Place,
  access = 'read-write',
  modified: string | undefined = 'modify',
  action?: string,
): BitAccess {
  const kind = Object.hasOwn(accesses, access) ? accesses[access] : undefined
  if (!kind) throw wrongAt(place, `"${access}" is no access; there are ${Object.keys(accesses).join(', ')}`)
  if (!Object.hasOwn(writes, modified))
    throw wrongAt(
      place,
      `"${modified}" is no modified write value; there are ${Object.keys(writes).join(', ')}`,
    )
  if (action !== undefined && !Object.hasOwn(reads, action))
    throw wrongAt(place, `"${action}" is no read action; there are ${Object.keys(reads).join(', ')}`)
  const [read, write, once] = kind
  return {
    read: !read ? 'none' : action === undefined ? 'plain' : reads[action],
    write: write ? writes[modified] : 'none',
    once,
  }
}
