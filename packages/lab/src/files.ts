import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

const accessible = (path: string, mode: number) =>
  access(path, mode).then(
    () => true,
    () => false,
  )

export const readable = (path: string): Promise<boolean> => accessible(path, constants.R_OK)

/** A program in PATH. */
export async function which(program: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder || '.', program)
    if (await accessible(path, constants.X_OK)) return path
  }
  return undefined
}
