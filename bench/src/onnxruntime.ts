import { type Ort, onnxruntime } from '@uaccel/test/onnxruntime'
import type { Run } from './measure.js'

/** onnxruntime-node as the tests have it; where there is none, `what` is left out. */
export function onnxruntimeFor(run: Run, what: string): Ort | undefined {
  try {
    return onnxruntime()
  } catch (error) {
    const [reason] = (error as Error).message.split('\n')
    run.leaveOut(`${what}: there is no onnxruntime-node (UACCEL_ORT names a folder that has it): ${reason}`)
    return undefined
  }
}
