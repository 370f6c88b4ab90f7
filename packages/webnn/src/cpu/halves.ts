import { narrow, widen } from '../half.js'
import type { Kernel, Operand } from './kernel.js'

/**
 * A kernel for nodes with operands of float16, out of the one for float32: those that are read are widened before it runs, and those that it writes
 * rounded afterwards. Sums, products, quotients and roots of halves come out as if they were rounded once: 24 bits are enough for that.
 */
export const withHalves =
  (kernel: Kernel): Kernel =>
  (node) => {
    const [before, after]: [(() => void)[], (() => void)[]] = [[], []]
    const wide = (operand: Operand, copies: (() => void)[], copy: typeof widen): Operand => {
      const halves = operand.data
      if (operand.dataType !== 'float16' || !(halves instanceof Uint16Array)) return operand
      const data = new Float32Array(halves.length)
      copies.push(() => copy(halves, data))
      return { dataType: 'float32', shape: operand.shape, data }
    }
    const inputs = Object.fromEntries(
      Object.entries(node.inputs).map(([as, operand]) => [as, wide(operand, before, widen)]),
    )
    const outputs = node.outputs.map((operand) =>
      wide(operand, after, (halves, numbers) => narrow(numbers, halves)),
    )
    if (before.length === 0 && after.length === 0) return kernel(node)
    const run = kernel({ ...node, inputs, outputs })
    return () => {
      for (let at = 0; at < before.length; at++) before[at]()
      run()
      for (let at = 0; at < after.length; at++) after[at]()
    }
  }
