import { Worker } from 'node:worker_threads'

const program = `import { parentPort } from 'node:worker_threads'
import { writeFileSync } from 'node:fs'
parentPort.on('message', ([path, text]) => {
  const start = performance.now()
  try {
    writeFileSync(path, text)
    parentPort.postMessage(performance.now() - start)
  } catch (error) {
    parentPort.postMessage(String(error))
  }
})`

/**
 * Somebody who writes to sysfs, in a thread of its own: the kernel holds up a write that takes a device from its user until
 * that one has let go of it.
 */
export class Administrator {
  readonly #worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`))

  constructor() {
    this.#worker.unref()
  }

  /** Writes, one thing at a time. Answers how long that took, in ms. */
  async write(path: string, text: string): Promise<number> {
    const answer = await new Promise<number | string>((resolve) => {
      this.#worker.once('message', resolve)
      this.#worker.postMessage([path, text])
    })
    if (typeof answer === 'string') throw new Error(`${path}: ${answer}`)
    return answer
  }
}
