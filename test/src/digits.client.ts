import { once } from 'node:events'
import { openAccel, openBuffers } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { accelerator } from '@uaccel/driver-npu/webnn'
import { classify, countMismatches, engineOn, loadDigits } from '@uaccel/example-digits'

/*
 * A client that recognises digits on the NPU of another process: argv[2] is the folder of the nodes, argv[3] how many images. It says when
 * it is loaded, and does the next part at each message: the images, then jobs with more and more data, then the end.
 */

const folder = process.argv[2]!
const images = Number(process.argv[3])
/** Bytes that the jobs of the second part fill. */
const SIZES = [1 << 12, 1 << 18, 1 << 24]

const say = (word: object) => process.send?.(word)
const told = () => once(process, 'message')

const { model, digits: all } = loadDigits()
const size = all.rows * all.columns
const digits = {
  ...all,
  count: images,
  pixels: all.pixels.subarray(0, images * size),
  labels: all.labels.subarray(0, images),
}

const edu = await openAccel(eduUapi, 'accel0', { folder })
const npu = await openAccel(npuUapi, 'accel1', { folder })
const buffers = openBuffers(npu)
// An open of its own: the accelerator closes it. Jobs, since two clients use the node at the same time.
const engine = await engineOn(
  model,
  await accelerator.open(await openAccel(npuUapi, 'accel1', { folder }), {
    memoryBytes: 16 << 20,
    shared: true,
  }),
  { device: 'NPU', transport: 'node' },
)
const { batch, report } = engine.network
const mapped = await Promise.all(SIZES.map((sizeBytes) => buffers.create(sizeBytes)))
// The first job of an open has its fence made.
const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 16, pattern: 0 }])
await buffers.run({ buffers: [{ buffer: mapped[0]! }], payload })
// The jobs of each batch, and those of the batch that is profiled: one for each part.
const jobs = report.doorbells * Math.ceil(images / batch) + report.commands
say({ loaded: true, uid: process.getuid?.(), jobs })

await told()
let recognising = true
let factorials = 0
let wrong = 0
const computing = (async () => {
  for (; recognising; factorials++) {
    const { value } = await edu.call('factorial', { n: 10 })
    if (value !== 3_628_800) wrong++
  }
})()
const result = await classify(engine, digits, () => {})
recognising = false
await computing
say({
  right: result.answers.reduce((sum, answer, i) => sum + Number(answer === digits.labels[i]), 0),
  factorials,
  wrong,
})

for (const [i, sizeBytes] of SIZES.entries()) {
  await told()
  const buffer = mapped[i]!
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: sizeBytes, pattern: 0x5a5a5a5a }])
  await buffers.run({ buffers: [{ buffer }], payload })
  say({ sizeBytes, filled: buffer.u8.every((byte) => byte === 0x5a) })
}

await told()
await engine.close()
await Promise.all([edu.close(), npu.close()])
say({ mismatches: countMismatches(model, digits, result.scores, () => {}) })
process.disconnect?.()
