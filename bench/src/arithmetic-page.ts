import { arithmeticRow, figures } from './arithmetic.js'
import { graphs } from './arithmetic-graphs.js'
import { line } from './markdown.js'
import type { Row } from './measure.js'

/** Whether a row has its place in the section on inference. */
export const isArithmetic = ({ name }: Row) =>
  graphs.some((graph) => figures.some((figure) => name === arithmeticRow(graph.name, figure)))

const head = [
  'graph',
  'onnxruntime, one thread, us',
  'its threads, us',
  "model's arithmetic, us",
  'host, us',
  'arithmetic / one thread',
  'min..max',
  'arithmetic / its threads',
  'arithmetic + host / one thread',
]
const small = (value: number) => Number(value.toPrecision(3)).toString()

/** The section of the page; empty where nothing was measured. */
export function drawArithmetic(rows: readonly Row[]): string {
  const lines = graphs.flatMap(({ name }) => {
    const [one, many, host] = figures.map((figure) =>
      rows.find((row) => row.name === arithmeticRow(name, figure)),
    )
    if (one === undefined || many === undefined || host === undefined) return []
    return [
      line([
        name,
        small(one.c),
        small(many.c),
        small(one.typescript),
        small(host.typescript),
        one.ratio.toFixed(2),
        `${one.spread.min.toFixed(2)}..${one.spread.max.toFixed(2)}`,
        many.ratio.toFixed(2),
        ((one.typescript + host.typescript) / one.c).toFixed(2),
      ]),
    ]
  })
  if (lines.length === 0) return ''
  return `## Inference beside onnxruntime

ONNX graphs through WebNN on the NPU's model, in this process, and through \`run()\` of onnxruntime-node on the CPU, with one thread and with as many
as it takes by itself. Results are compared before anything is measured: \`float32\` within 1e-4, \`uint8\` bit for bit.

${[line(head), line(['---', ...head.slice(1).map(() => '---:')]), ...lines].join('\n')}

- **model's arithmetic** is the time of the emulated device: it fetches commands, checks them, computes, and writes completions. **host** is all else from
  \`dispatch\` to the end of \`readTensor\`: what remains where a device computes in no time. Host and device take turns here; in two processes, waking the
  other one comes on top.
- The model computes in WebAssembly SIMD: 128 bits, without fused multiplication and addition, on one thread. onnxruntime has the processor's widest
  vectors (of 512 bits where it has AVX-512, with products of 8-bit numbers where it has VNNI), so that no parity is to be expected of products of matrices.
- Operands lie in memory that is shared with the host, which is no memory of WebAssembly: they are copied into it, and results out of it.
`
}
