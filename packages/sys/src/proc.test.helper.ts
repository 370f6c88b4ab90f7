import { readdirSync, readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/*
 * What this process holds, counted from outside of it: shared by the tests here.
 */

export const openFds = (): number => readdirSync('/proc/self/fd').length - 1 // the listing's own

export const threads = (): number => readdirSync('/proc/self/task').length

export const mapsOf = (name: string): string[] =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name))

export const isMapped = (address: bigint): boolean =>
  mapsOf('-').some((line) => {
    const [start, end] = line.split(/[- ]/, 2).map((hex) => BigInt(`0x${hex}`))
    return start <= address && address < end
  })

export const virtualBytes = (): number =>
  1024 * Number(/VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1])

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

/** Waits until `check` holds, with collections in between; false where it never does. */
export async function eventually(check: () => boolean, limitMs = 5000): Promise<boolean> {
  for (const end = performance.now() + limitMs; performance.now() < end; ) {
    gc()
    await new Promise((resolve) => setTimeout(resolve, 10))
    if (check()) return true
  }
  return false
}
