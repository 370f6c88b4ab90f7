import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { loadDigits } from '@uaccel/example-digits'
import { commonUapi, HEADER_BYTES, isAccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { eventually, nodeFolder, startProcess } from './nodes.js'
import { NOBODY } from './unprivileged.js'

/** Images that each client reads, of 1600. */
const images = Number(process.env.UACCEL_DIGITS ?? 40)
/** The part that is right at least: of all 1600, as the example itself is held to; the first few are somewhat harder. */
const accuracy = images === 1600 ? 0.97 : 0.9
/** Images that are looked for in what passes through the socket. */
const NEEDLES = 16

t.setTimeout(300_000 + images * 500)

const asRoot = process.getuid?.() === 0
const account = { nobody: asRoot }

const command = fileURLToPath(new URL('../../packages/cli/bin/uaccel.mjs', import.meta.url))

/** `uaccel serve` with an edu and an NPU, which anybody may open. */
async function serve(t: Test, folder: string): Promise<void> {
  const args = ['serve', '--model', 'edu', 'npu', '--folder', folder, '--mode', '666']
  const server = fork(command, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  t.teardown(() => server.kill('SIGTERM'))
  let said = ''
  server.stderr!.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const served = async (name: string) => {
    try {
      await (await openAccel(commonUapi, name, { folder })).close()
      return true
    } catch (error) {
      if (isAccelError(error)) return false
      throw error
    }
  }
  const both = await eventually(async () => (await served('accel0')) && (await served('accel1')))
  t.ok(both, both ? 'it serves' : said)
}

async function ask(process: ChildProcess, word: object): Promise<Record<string, never>> {
  const answered = once(process, 'message')
  process.send(word)
  const [answer] = await answered
  return answer
}

/** What a job sends through the socket, both ways: the messages of SUBMIT and WAIT. */
const messages = (...names: ('submit' | 'wait' | 'fenceCreate')[]) =>
  names.reduce((sum, name) => {
    const command = commonUapi.byName(name)
    return sum + 2 * HEADER_BYTES + command.in.layout.sizeBytes + command.out.layout.sizeBytes
  }, 0)

/** Parts of images, as the network takes them: pixels in 0..1, from the middle of each. */
function partsOfImages(): string[] {
  const { digits } = loadDigits()
  const size = digits.rows * digits.columns
  return Array.from({ length: Math.min(NEEDLES, images) }, (_, i) => {
    const middle = digits.pixels.subarray(i * size + 13 * digits.columns, i * size + 15 * digits.columns)
    return Buffer.from(Float32Array.from(middle, (pixel) => pixel / 255).buffer).toString('base64')
  })
}

t.test(
  `${images} digits in each of two processes without privileges, through buffers and SUBMIT of one server`,
  { timeout: 200_000 + images * 500 },
  async (t) => {
    const [folder, relayed] = [nodeFolder(t), nodeFolder(t)]
    chmodSync(folder, 0o755)
    if (asRoot) chownSync(relayed, NOBODY, NOBODY)
    await serve(t, folder)
    const { process: relay } = await startProcess(
      t,
      './nodes.relay.js',
      [folder, relayed, 'accel0,accel1'],
      account,
    )
    const needles = partsOfImages()
    await ask(relay, { needles })
    const passed = async () =>
      (await ask(relay, {})) as unknown as Record<
        string,
        { bytes: number; descriptors: number; found: number }
      >
    const clients = await Promise.all(
      [1, 2].map(() => startProcess(t, './digits.client.js', [relayed, `${images}`], account)),
    )
    for (const { said } of clients) t.equal(said.uid, asRoot ? NOBODY : process.getuid?.())
    const jobs = clients.reduce((sum, { said }) => sum + Number(said.jobs), 0)
    const npu = await openAccel(npuUapi, 'accel1', { folder })
    await npu.call('counters', { clear: true })

    const before = await passed()
    t.ok(before.accel1!.descriptors >= 2 * 4, 'memory went to the clients as descriptors')
    const read = await Promise.all(clients.map(({ process }) => ask(process, {})))
    const after = await passed()
    for (const { right, factorials, wrong } of read) {
      t.ok(right / images > accuracy, `${right} of ${images} are right`)
      t.equal(wrong, 0, `and so are ${factorials} factorials of edu meanwhile`)
      t.ok(factorials > 0)
    }
    const bytes = after.accel1!.bytes - before.accel1!.bytes
    const perJob = messages('submit', 'wait')
    t.equal(
      bytes,
      jobs * perJob + 2 * messages('fenceCreate'),
      `each of ${jobs} jobs is ${perJob} bytes in the socket`,
    )
    t.equal(after.accel1!.descriptors, before.accel1!.descriptors)
    t.equal(after.accel1!.found + after.accel0!.found, 0, 'no image passed')
    const { bytesRead, bytesWritten, errors } = await npu.call('counters', { clear: false })
    t.equal(errors, 0n)
    const moved = Number(bytesRead + bytesWritten)
    t.ok(bytes * 10 < moved, `${bytes} bytes passed, while the device moved ${moved}`)

    for (const { process } of clients) {
      for (let sizeBytes = 0; sizeBytes < 1 << 24; ) {
        const start = (await passed()).accel1!.bytes
        const answer = await ask(process, {})
        sizeBytes = answer.sizeBytes
        t.equal(answer.filled, true)
        t.equal((await passed()).accel1!.bytes - start, perJob, `a job of ${sizeBytes} bytes is as long`)
      }
    }
    const edu = await openAccel(eduUapi, 'accel0', { folder: relayed })
    await edu.call('echo', { data: Buffer.from(needles[0]!, 'base64') })
    t.equal((await passed()).accel0!.found, 2, 'what does pass is seen: an image that edu has to echo')
    await Promise.all([edu.close(), npu.close()])
    for (const { mismatches } of await Promise.all(clients.map(({ process }) => ask(process, {})))) {
      t.equal(mismatches, 0, 'bit for bit as the reference')
    }
  },
)
