import { accelError } from '@uaccel/uapi'
import type { Accelerator, AcceleratorMemory } from '../accelerator.js'
import type { Backend } from '../backend.js'
import type { Graph } from '../graph.js'
import { compile } from './compile.js'
import type { Executor } from './executor.js'

const onHeap = (sizeBytes: number): AcceleratorMemory => ({ bytes: new Uint8Array(sizeBytes), free() {} })

/**
 * An accelerator, with the CPU for what it does not do, or the CPU alone. `close` of the backend gives back what it took of the accelerator, and closes it.
 */
export function planBackend(accelerator?: Accelerator): Backend {
  const executors = new Set<Executor>()
  const memories = new Set<AcceleratorMemory>()
  let gone: Error | undefined
  accelerator?.lost.then((reason) => {
    gone = accelError('ERR_ACCEL_NO_DEVICE', `${accelerator.name} was lost: ${reason}`)
    for (const executor of executors) executor.lose(gone)
  })
  return {
    accelerated: accelerator !== undefined,
    allocate(sizeBytes) {
      const memory = accelerator === undefined ? onHeap(sizeBytes) : accelerator.allocate(sizeBytes)
      memories.add(memory)
      return memory
    },
    free(memory) {
      if (memories.delete(memory)) memory.free()
    },
    compile(graph: Graph) {
      if (gone !== undefined) throw gone
      const executor = compile(graph, accelerator)
      executors.add(executor)
      return {
        report: executor.report,
        run: (inputs, outputs, ended) => executor.run(inputs, outputs, ended),
        profile: (inputs, outputs) => executor.profile(inputs, outputs),
        destroy() {
          if (executors.delete(executor)) executor.destroy()
        },
      }
    },
    ...(accelerator === undefined ? {} : { lost: accelerator.lost, polling: accelerator.polling }),
    async close() {
      try {
        for (const executor of executors) executor.destroy()
        for (const memory of memories) memory.free()
      } finally {
        executors.clear()
        memories.clear()
        await accelerator?.close()
      }
    },
  }
}
