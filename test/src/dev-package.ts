import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bytes, cmd, u32, uapi } from '@uaccel/uapi'
import type { Test } from 'tap'

/** A driver's package of an author, in a folder of its own. Its device keeps a word and 4 KiB of memory. */
export interface DevPackage {
  readonly folder: string
  /** Changes a file as editors do: a new one takes the place of the old. */
  edit(file: string, from: string, to: string): void
  /** Takes back all edits. */
  restore(): void
}

const UAPI = `import { bytes, cmd, u32, uapi } from '@uaccel/uapi'

export const boxUapi = uapi({
  name: 'box',
  version: 1,
  commands: {
    revision: cmd(0x40, { out: { value: u32 } }),
    put: cmd(0x41, { in: { value: u32, data: bytes(16) } }),
    get: cmd(0x42, { out: { value: u32, data: bytes(16) } }),
    hang: cmd(0x43),
  },
})
`

const DRIVER = `import { accelDriver } from '@uaccel/accel'
import { reg32, registers } from '@uaccel/core'
import { boxUapi } from './uapi.js'
import { REVISION } from './revision.js'

const Bar0 = registers({ ID: reg32(0x00, 'ro'), VALUE: reg32(0x04, 'rw') })

export default accelDriver({
  name: 'box',
  uapi: boxUapi,
  ids: [{ bus: 'pci', vendor: 0x1234, device: 0xb0c5 }],
  async probe(dev) {
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Bar0)
    const card = await dev.mapMemory(2)
    if (bar.ID.read() !== 0xb0c5) throw new Error('no box')
    return {
      attributes: { value: { show: () => bar.VALUE.read(), type: 'integer' } },
      commands: {
        revision: () => ({ value: REVISION }),
        put({ value, data }) {
          bar.VALUE.write(value)
          data.forEach((byte, i) => card.write8(i, byte))
          return {}
        },
        get: () => ({ value: bar.VALUE.read(), data: Uint8Array.from({ length: 4 }, (_, i) => card.read8(i)) }),
        hang: () => new Promise<never>(() => {}),
      },
    }
  },
})
`

const MODEL = `import { defineModel, registerBank } from '@uaccel/model'

export const boxModel = defineModel({
  identity: { name: 'box', vendor: 0x1234, device: 0xb0c5, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32' },
    { index: 2, sizeBytes: 4096, kind: 'mem32', memory: [{ name: 'card', offset: 0, sizeBytes: 4096 }] },
  ],
  interrupts: { intx: true },
  create() {
    const bank = registerBank([
      { name: 'identity', offset: 0x00, width: 4, access: 'ro', reset: 0xb0c5 },
      { name: 'word', offset: 0x04, width: 4, access: 'rw' },
    ])
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      describe: (_bar, offset) => bank.describe(offset),
      reset: () => bank.reset(),
    }
  },
})
`

const REVISION = 'export const REVISION = 1\n'

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url))

/** Makes it: in TypeScript, or the same without types in plain JavaScript. */
export function devPackage(t: Test, language: 'ts' | 'js' = 'ts'): DevPackage {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-package-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const out = language === 'ts' ? './dist/src' : './src'
  const out2 = language === 'ts' ? './dist/model/index.js' : './model/index.js'
  const files: Record<string, string> = {
    'package.json': JSON.stringify({
      name: 'my-box',
      version: '0.1.0',
      type: 'module',
      exports: { '.': `${out}/driver.js`, './uapi': `${out}/uapi.js`, './model': out2 },
    }),
    [`src/uapi.${language}`]: UAPI,
    [`src/revision.${language}`]: REVISION,
    [`src/driver.${language}`]: language === 'ts' ? DRIVER : DRIVER.replace('<never>', ''),
    [`model/index.${language}`]: MODEL,
  }
  if (language === 'ts') {
    const compilerOptions = {
      ...{ target: 'es2023', lib: ['es2023', 'esnext.disposable'], module: 'nodenext', types: ['node'] },
      ...{ strict: true, sourceMap: true, skipLibCheck: true, rootDir: '.', outDir: 'dist' },
    }
    files['tsconfig.json'] = JSON.stringify({ compilerOptions, include: ['src', 'model'] })
  }
  symlinkSync(modules, join(folder, 'node_modules'))
  for (const name of ['src', 'model']) mkdirSync(join(folder, name))
  const write = (file: string, text: string) => {
    const draft = join(folder, `${file}~`)
    writeFileSync(draft, text)
    renameSync(draft, join(folder, file))
  }
  for (const [file, text] of Object.entries(files)) write(file, text)
  return {
    folder,
    edit(file, from, to) {
      const before = readFileSync(join(folder, file), 'utf8')
      if (!before.includes(from)) throw new Error(`${file} has no ${from}`)
      write(file, before.replace(from, to))
    },
    restore() {
      for (const [file, text] of Object.entries(files))
        if (readFileSync(join(folder, file), 'utf8') !== text) write(file, text)
    },
  }
}

/** As the package has it at the beginning. */
export const boxUapi = uapi({
  name: 'box',
  version: 1,
  commands: {
    revision: cmd(0x40, { out: { value: u32 } }),
    put: cmd(0x41, { in: { value: u32, data: bytes(16) } }),
    get: cmd(0x42, { out: { value: u32, data: bytes(16) } }),
    hang: cmd(0x43),
  },
})
