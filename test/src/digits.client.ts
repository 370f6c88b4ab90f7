import { once } from 'node:events'
import { openBuffers } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { classify, countMismatches, loadDigits } from '@uaccel/example-digits'
import { npuJobAccelerator, Session } from '@uaccel/inference'

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

const { graph, digits: all } = loadDigits()
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
const accelerator = npuJobAccelerator(buffers, await npu.call('identify', {}))
const session = await Session.load(graph, { accelerator, slots: 8 })
const onNpu = session.plan.batches.filter(({ device }) => device === 'npu').length
const mapped = await Promise.all(SIZES.map((sizeBytes) => buffers.create(sizeBytes)))
say({ loaded: true, uid: process.getuid?.(), jobs: onNpu * images })

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
const engine = { device: 'NPU', transport: 'node', session, close: () => session.close() }
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
await session.close()
await Promise.all([edu.close(), npu.close()])
say({ mismatches: countMismatches(graph, digits, result.scores, () => {}) })
process.disconnect?.()
