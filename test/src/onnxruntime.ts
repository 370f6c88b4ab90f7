import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A tensor of onnxruntime-node, as far as the tests need it. */
export interface OrtTensor {
  readonly type: string
  readonly dims: readonly number[]
  readonly data: Float32Array | BigInt64Array | Int32Array | Uint8Array
}

export interface Ort {
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: Readonly<Record<string, unknown>>,
    ): Promise<{
      run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>>
      release(): Promise<void>
    }>
  }
  readonly Tensor: new (type: string, data: OrtTensor['data'], dims: readonly number[]) => OrtTensor
}

const folder = fileURLToPath(new URL('../onnxruntime/', import.meta.url))

/** Tests run beside each other: one installs, and the others wait for it, 5 minutes at most. */
function install(): void {
  const installing = `${folder}.installing`
  const waiter = new Int32Array(new SharedArrayBuffer(4))
  for (let tries = 0; tries < 600; tries++) {
    try {
      mkdirSync(installing)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      Atomics.wait(waiter, 0, 0, 500)
      continue
    }
    try {
      if (existsSync(`${folder}node_modules/.package-lock.json`)) return
      // What the test runner tells its programs by their environment is not for npm.
      const { NODE_OPTIONS: _, ...env } = process.env
      execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
        cwd: folder,
        env,
        stdio: ['ignore', 'ignore', 'inherit'],
      })
      return
    } finally {
      rmdirSync(installing)
    }
  }
  throw new Error(`${installing} is there for too long: remove it if no test is installing`)
}

/**
 * onnxruntime-node: of the folder that `UACCEL_ORT` names, or of test/onnxruntime, where it is installed when it is missing. A lane that cannot have it
 * fails.
 */
export function onnxruntime(): Ort {
  const own = process.env.UACCEL_ORT
  if (own === undefined) install()
  return createRequire(own === undefined ? folder : resolve(own, 'package.json'))('onnxruntime-node') as Ort
}
