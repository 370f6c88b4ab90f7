import { openSync } from 'node:fs'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { isAccelError } from '@uaccel/uapi'

/* A client in a process of its own, of a user without rights: argv[2] is what it does. It loads no driver, but for a uAPI. */

const say = (word: object) => process.send?.(word)

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error) => (isAccelError(error) ? error.code : String(error)),
  )

const pattern = (sizeBytes: number) => Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 31) ^ (i >> 8))

function mayOpen(path: string): boolean {
  try {
    openSync(path, 'r+')
    return true
  } catch {
    return false
  }
}

const programs: Record<string, () => Promise<void>> = {
  /** All that a client can ask of edu; then it tells of events until it is disconnected. */
  async session() {
    const dev = await openAccel(eduUapi, 'accel0')
    const factorials = await Promise.all([5, 10, 12].map((n) => dev.call('factorial', { n })))
    const data = pattern(4095)
    const echoed = Buffer.from((await dev.call('echo', { data })).data).equals(data)
    await dev.call('dmaWrite', { offset: 1000, data: Uint8Array.of(1, 2, 3) })
    const { data: part } = await dev.call('dmaRead', { offset: 999, sizeBytes: 5 })
    const show = async (path: string) => (await dev.common('attrShow', { path })).value
    const contexts = (await dev.query('contexts'))!.entries.filter(({ self }) => self)
    say({
      uid: process.getuid!(),
      vfio: mayOpen('/dev/vfio/vfio') && mayOpen(process.argv[3]!),
      factorials: factorials.map(({ value }) => value),
      echoed,
      part: [...part].slice(1, 4),
      info: await dev.info(),
      identity: await dev.query('identity'),
      status: await dev.query('status'),
      contexts: contexts.map(({ pid, uid, gid }) => ({ pid, uid, gid })),
      version: await show('version'),
      vendor: await show('identity/vendor'),
      refused: [
        await codeOf(dev.common('reset', { kind: 'function', reason: 'without the right to' })),
        await codeOf(dev.common('attrStore', { path: 'liveness', value: '1' })),
        await codeOf(dev.call('dmaRead', { offset: 1, sizeBytes: 4095 })),
      ],
    })
    const watching = async () => {
      for await (const { kind, reason } of dev.events())
        say({ event: kind, reason, works: await codeOf(dev.call('factorial', { n: 10 })) })
    }
    await codeOf(watching())
  },
  /** Transfers without end, several under way at any moment. */
  async busy() {
    const dev = await openAccel(eduUapi, 'accel0')
    const data = pattern(2000)
    await dev.call('echo', { data })
    say({ busy: true })
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (;;) await dev.call('echo', { data })
      }),
    )
  },
  /** Reads so many digits on the NPU, by jobs on buffers that are mapped here. */
  async digits() {
    const { classify, engineOn, loadDigits } = await import('@uaccel/example-digits')
    const { accelerator } = await import('@uaccel/driver-npu/webnn')
    const dev = await openAccel(npuUapi, 'accel0')
    const { model, digits } = loadDigits()
    // The accelerator closes the open that it is given.
    const npu = await accelerator.open(await openAccel(npuUapi, 'accel0'), {
      memoryBytes: 16 << 20,
      shared: true,
    })
    const engine = await engineOn(model, npu, { device: 'NPU', transport: 'node', batch: 1 })
    const some = { ...digits, count: Number(process.argv[3]) }
    const { scores } = await classify(engine, some, () => {})
    const bytes = Buffer.concat(scores.map(({ buffer }) => Buffer.from(buffer)))
    const { descriptors, errors } = await dev.call('counters', { clear: false })
    await engine.close()
    await dev.close()
    say({
      uid: process.getuid!(),
      scores: bytes.toString('base64'),
      descriptors: Number(descriptors),
      errors: Number(errors),
    })
  },
  /** Waits for events with calls under way, and tells how all that ends. */
  async waiting() {
    const dev = await openAccel(eduUapi, 'accel0')
    const events: string[] = []
    const told = codeOf(
      (async () => {
        for await (const { kind } of dev.events()) events.push(kind)
      })(),
    )
    const calls = [1, 2].map((n) =>
      codeOf(
        (async () => {
          for (;;) await dev.call('factorial', { n: n << 26 })
        })(),
      ),
    )
    await dev.info()
    say({ waiting: true })
    process.channel?.ref() // an open as such keeps no process alive
    const lost = await dev.lost
    const codes = await Promise.all(calls)
    const later = await codeOf(dev.call('identify', {}))
    say({ codes, lost: lost.code, later, events, told: await told })
  },
}

await programs[process.argv[2]!]!()
process.disconnect?.()
