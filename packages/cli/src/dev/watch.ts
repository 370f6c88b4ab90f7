import { type FSWatcher, readdirSync, watch } from 'node:fs'
import { join } from 'node:path'
import { accelError } from '@uaccel/uapi'

/** Folders whose content is nobody's source. */
const skipped = (name: string) => name === 'node_modules' || name.startsWith('.')

/**
 * Watches the files of a folder and of those below it. Folders are watched and no files, so that a file which an editor replaces is
 * the same one afterwards.
 */
export class FolderWatch {
  readonly #watchers = new Map<string, FSWatcher>()
  readonly #changed: (path: string) => void
  readonly #without: ReadonlySet<string>

  /**
   * @param without Folders that are left out, such as that of the compiler's output
   * @throws ERR_ACCEL_SYSTEM the system watches no more folders for this user
   */
  constructor(folder: string, without: ReadonlySet<string>, changed: (path: string) => void) {
    this.#without = without
    this.#changed = changed
    this.#add(folder)
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  #add(folder: string): void {
    if (this.#watchers.has(folder) || this.#without.has(folder)) return
    let watcher: FSWatcher
    try {
      watcher = watch(folder, (event, name) => {
        if (name === null || skipped(name)) return
        const path = join(folder, name)
        // It came, went or was replaced; another folder of that name has to be watched anew.
        if (event === 'rename') {
          this.#remove(path)
          if (isFolder(path)) this.#add(path)
        }
        this.#changed(path)
      })
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return // gone since it was listed
      throw accelError(
        'ERR_ACCEL_SYSTEM',
        `${folder} cannot be watched: ${message}${code === 'ENOSPC' ? '. Raise fs.inotify.max_user_watches with sysctl' : ''}`,
        { cause, ...(code === undefined ? {} : { errno: code }) },
      )
    }
    watcher.on('error', () => this.#remove(folder))
    this.#watchers.set(folder, watcher)
    for (const each of foldersIn(folder)) this.#add(join(folder, each))
  }

  #remove(folder: string): void {
    for (const [path, watcher] of this.#watchers) {
      if (path !== folder && !path.startsWith(`${folder}/`)) continue
      watcher.close()
      this.#watchers.delete(path)
    }
  }
}

const isFolder = (path: string) => {
  try {
    readdirSync(path)
    return true
  } catch {
    return false
  }
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !skipped(entry.name))
      .map(({ name }) => name)
  } catch {
    return [] // gone since
  }
}
