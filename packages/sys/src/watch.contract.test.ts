import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { AccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { abi, type EngineName, EventFd, type ProviderName, systemCalls, watch } from './index.js'
import { eventually, openFds, threads } from './proc.test.helper.js'

/** Where and how a watch runs: the suite below is the same for each. */
interface Setup {
  provider: ProviderName
  engine: EngineName
  worker: boolean
}

const setups: Setup[] = [
  { provider: 'koffi', engine: 'uv', worker: false },
  { provider: 'koffi', engine: 'epoll', worker: false },
  { provider: 'ffi-rs', engine: 'epoll', worker: false },
  { provider: 'koffi', engine: 'epoll', worker: true },
  { provider: 'ffi-rs', engine: 'epoll', worker: true },
]

const titleOf = ({ provider, engine, worker }: Setup) =>
  `${engine} over ${provider} in ${worker ? 'a worker' : 'the main thread'}`

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Uncaught exceptions of this thread while `body` runs. */
async function uncaught(body: () => Promise<void>): Promise<unknown[]> {
  const seen: unknown[] = []
  const note = (error: unknown) => seen.push(error)
  const others = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException') // tap has one of its own
  process.on('uncaughtException', note)
  await body()
  process.off('uncaughtException', note)
  for (const other of others) process.on('uncaughtException', other)
  return seen
}

/** What every engine must do. Each check throws where it does not; they run in any thread. */
const contract: Record<string, (setup: Setup) => Promise<void>> = {
  async '10,000 signals from this thread, none lost'({ provider, engine }) {
    const calls = systemCalls(provider)
    const event = new EventFd(calls)
    let total = 0
    const watching = watch(event.fd, () => (total += event.drain()), { engine }, calls)
    for (let i = 0; i < 10_000; i++) {
      event.signal()
      if (i % 3 === 0) await turn()
    }
    assert.ok(await eventually(() => total === 10_000), `${total} of 10000`)
    watching.close()
    event.close()
  },

  async '10,000 signals from another thread, each one waited for'({ provider, engine }) {
    const calls = systemCalls(provider)
    const [ping, pong] = [new EventFd(calls), new EventFd(calls)]
    const partner = new Worker(new URL(import.meta.url), {
      workerData: { partner: [ping.fd, pong.fd, provider] },
      execArgv: [],
    })
    const ended = new Promise((resolve) => partner.once('exit', resolve))
    let round = 0
    await new Promise<void>((resolve) => {
      const watching = watch(
        pong.fd,
        () => {
          assert.equal(pong.drain(), 1)
          if (++round < 10_000) return ping.signal()
          watching.close()
          resolve()
        },
        { engine },
        calls,
      )
      ping.signal()
    })
    await ended
    ping.close()
    pong.close()
  },

  async 'what is left unread comes again'({ provider, engine }) {
    const calls = systemCalls(provider)
    const [a, b] = calls.socketpair()
    const byte = new Uint8Array(1)
    const got: number[] = []
    calls.write(a, Uint8Array.of(1, 2, 3))
    const watching = watch(
      b,
      () => {
        if (calls.read(b, byte) === 1) got.push(byte[0])
      },
      { engine },
      calls,
    )
    assert.ok(await eventually(() => got.length === 3))
    assert.deepEqual(got, [1, 2, 3])
    watching.close()
    calls.close(a)
    calls.close(b)
  },

  async 'a peer that hangs up wakes the watch, with data unread on its side too'({ provider, engine }) {
    const calls = systemCalls(provider)
    for (const unread of [false, true]) {
      const [a, b] = calls.socketpair()
      if (unread) calls.write(b, Uint8Array.of(1))
      let ends = 0
      const watching = watch(
        b,
        () => {
          try {
            if (calls.read(b, new Uint8Array(1)) === 0) ends++
          } catch (error) {
            assert.equal((error as AccelError).code, 'ERR_ACCEL_CLOSED') // ECONNRESET, said once
          }
        },
        { engine },
        calls,
      )
      await pause(20)
      assert.equal(ends, 0)
      calls.close(a)
      assert.ok(await eventually(() => ends >= 3), 'until it is closed')
      watching.close()
      const after = ends
      await pause(20)
      assert.equal(ends, after)
      calls.close(b)
    }
  },

  async 'room to write'({ provider, engine }) {
    const calls = systemCalls(provider)
    const [a, b] = calls.socketpair(abi.SOCK_NONBLOCK)
    const chunk = new Uint8Array(65536)
    while (calls.write(a, chunk) !== undefined);
    let room = 0
    const watching = watch(a, () => room++, { events: 'writable', engine }, calls)
    await pause(50)
    assert.equal(room, 0)
    while (calls.read(b, chunk) !== undefined);
    assert.ok(await eventually(() => room > 0))
    watching.close()
    calls.close(a)
    calls.close(b)
  },

  async 'an exception reaches uncaughtException, and the watch goes on'({ provider, engine }) {
    const calls = systemCalls(provider)
    const event = new EventFd(calls)
    let wakes = 0
    const seen = await uncaught(async () => {
      const watching = watch(
        event.fd,
        () => {
          event.drain()
          if (++wakes < 3) throw new Error(`wake ${wakes}`)
        },
        { engine },
        calls,
      )
      for (let i = 1; i <= 3; i++) {
        event.signal()
        assert.ok(await eventually(() => wakes === i))
      }
      watching.close()
    })
    assert.deepEqual(
      seen.map((error) => (error as Error).message),
      ['wake 1', 'wake 2'],
    )
    event.close()
  },

  async 'promises and ticks of a handler go on at once, with nothing else in the loop'({ provider, engine }) {
    const calls = systemCalls(provider)
    const event = new EventFd(calls)
    const partner = new Worker(new URL(import.meta.url), {
      workerData: { slow: [event.fd, provider] },
      execArgv: [],
    })
    await new Promise((resolve) => partner.once('online', resolve))
    partner.unref()
    const delaysMs: number[] = []
    await new Promise<void>((resolve) => {
      const watching = watch(
        event.fd,
        async () => {
          event.drain()
          const start = performance.now()
          await null
          delaysMs.push(performance.now() - start)
          await new Promise<void>((next) => process.nextTick(next))
          delaysMs.push(performance.now() - start)
          if (delaysMs.length < 20) return
          watching.close()
          resolve()
        },
        { engine },
        calls,
      )
    })
    // signals are 20 ms apart: one that had to wait for the next wake would show
    const prompt = delaysMs.filter((delay) => delay < 10).length
    assert.ok(prompt >= 18, `delays in ms: ${delaysMs.map((delay) => delay.toFixed(2))}`)
    await partner.terminate()
    event.close()
  },

  async 'closed in its handler, by another handler, twice, and before it was ready'({ provider, engine }) {
    const calls = systemCalls(provider)
    const [a, b] = [new EventFd(calls), new EventFd(calls)]
    let wakes = 0
    const first = watch(
      a.fd,
      () => {
        wakes++
        first.unref()
        first.close()
        second.close()
      },
      { engine },
      calls,
    )
    const second = watch(
      b.fd,
      () => {
        wakes++
        first.close()
        second.close()
      },
      { engine },
      calls,
    )
    a.signal()
    b.signal()
    assert.ok(await eventually(() => wakes > 0))
    await pause(20)
    assert.equal(wakes, 1, 'neither is called after its close')
    for (const watching of [first, second]) {
      watching.close()
      watching.ref()
      watching.unref()
      watching.close()
    }
    const third = watch(a.fd, () => wakes++, { engine, ref: false }, calls)
    third.close()
    await pause(20)
    assert.equal(wakes, 1)
    a.close()
    b.close()
  },

  async 'many watches, opened and closed at random'({ provider, engine }) {
    const calls = systemCalls(provider)
    const events = Array.from({ length: 100 }, () => new EventFd(calls))
    const counts = events.map(() => 0)
    const start = (i: number) =>
      watch(events[i].fd, () => (counts[i] += events[i].drain()), { engine, ref: i % 2 === 0 }, calls)
    const watches = events.map((_, i) => start(i))
    for (let round = 0; round < 20; round++) {
      for (let i = round % 3; i < events.length; i += 3) {
        watches[i].close()
        events[i].signal()
        watches[i] = start(i)
      }
      for (const event of events) event.signal()
      await turn()
    }
    const sum = () => counts.reduce((total, count) => total + count, 0)
    const expected = 20 * 100 + 7 * 34 + 7 * 33 + 6 * 33
    assert.ok(await eventually(() => sum() === expected), `${sum()} of ${expected}`)
    for (const watching of watches) watching.close()
    for (const event of events) event.close()
  },

  async 'watches one after the other, signalled before the loop waits: none is lost'({ provider, engine }) {
    const calls = systemCalls(provider)
    for (let round = 0; round < 4; round++) {
      const event = new EventFd(calls)
      let count = 0
      const watching = watch(event.fd, () => (count += event.drain()), { engine }, calls)
      event.signal()
      assert.ok(await eventually(() => count === 1), `round ${round}`)
      watching.close()
      event.close()
    }
  },

  async 'what cannot be watched'({ provider, engine, worker }) {
    const calls = systemCalls(provider)
    if (worker) {
      const uv = () => watch(0, () => {}, { engine: 'uv' }, calls)
      assert.throws(uv, { code: 'ERR_ACCEL_UNSUPPORTED' }, "that loop is the main thread's")
    }
    const errno = (fd: number) => {
      try {
        watch(fd, () => {}, { engine }, calls).close()
        return 'did not fail'
      } catch (error) {
        return error instanceof AccelError ? error.errno : error
      }
    }
    const file = calls.memfdCreate('x')
    assert.equal(errno(file), 'EPERM')
    calls.close(file)
    assert.equal(errno(900_000), 'EBADF')
    const event = new EventFd(calls)
    const watching = watch(event.fd, () => {}, { engine }, calls)
    assert.equal(errno(event.fd), 'EEXIST', 'a descriptor has one watch')
    watching.close()
    assert.equal(errno(event.fd), 'did not fail', 'and may have another one then')
    event.close()
  },
}

async function main() {
  t.setTimeout(180_000)
  await t.test('the choice of an engine', choiceSuite)
  for (const setup of setups) {
    const { provider, engine, worker } = setup
    await t.test(titleOf(setup), { timeout: 60_000 }, async (t) => {
      // what is loaded once opens descriptors and starts threads of its own
      const calls = systemCalls(provider)
      const first = new EventFd(calls)
      if (!worker) watch(first.fd, () => {}, { engine }, calls).close()
      first.close()
      await pause(50)
      const before = [openFds(), threads()]
      if (worker) {
        await t.test('the suite', { timeout: 60_000 }, async (t) => {
          const thread = new Worker(new URL(import.meta.url), { workerData: { setup }, execArgv: [] })
          thread.on('message', ({ name, failure }) => t.equal(failure, undefined, name))
          await new Promise((resolve) => thread.once('exit', resolve))
          t.equal(t.counts.total, Object.keys(contract).length)
        })
      } else {
        for (const [name, check] of Object.entries(contract)) {
          await t.test(name, async () => check(setup))
        }
      }
      t.ok(
        await eventually(() => openFds() <= before[0] && threads() <= before[1]),
        `descriptors and threads: ${[openFds(), threads()]} now, ${before} before`,
      )
      await t.test('how the process ends', async (t) => processSuite(t, setup))
    })
  }
}

/** The engine on libuv says where it cannot work; without a choice the watch finds one that does. */
async function choiceSuite(t: Test) {
  const refused = { code: 'ERR_ACCEL_UNSUPPORTED' }
  const ffiRs = systemCalls('ffi-rs')
  t.throws(() => watch(0, () => {}, { engine: 'uv' }, ffiRs), refused)
  for (const calls of [ffiRs, systemCalls('koffi')]) {
    const event = new EventFd(calls)
    event.signal()
    await new Promise<void>((resolve) => {
      const watching = watch(
        event.fd,
        () => {
          watching.close()
          resolve()
        },
        {},
        calls,
      )
    })
    event.close()
  }
}

/** Runs a program in a process of its own and, where asked, in a worker of that. */
async function run({ provider, engine, worker }: Setup, body: string) {
  const index = JSON.stringify(new URL('./index.js', import.meta.url).href)
  const program = `import { EventFd, systemCalls, watch } from ${index}
    const calls = systemCalls('${provider}'), options = { engine: '${engine}' }
    const event = new EventFd(calls)
    const wake = () => { event.drain(); console.log('woke'); w.close() }
    ${body}`
  const source = worker
    ? `import { Worker } from 'node:worker_threads'
       new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(program)})))`
    : program
  const started = performance.now()
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { timeout: 20_000 })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => (stdout += chunk))
  child.stderr.on('data', (chunk) => (stderr += chunk))
  const status = await new Promise((resolve) =>
    child.once('close', (code, signal) => resolve(signal ?? code)),
  )
  return { status, stdout: stdout.trim(), stderr, tookMs: performance.now() - started }
}

/** How processes end, each in one of its own. */
async function processSuite(t: Test, setup: Setup) {
  const late = 'setTimeout(() => event.signal(), 300).unref()'
  const never = 'setTimeout(() => event.signal(), 60_000).unref()'
  const kept = [
    `const w = watch(event.fd, wake, options, calls); ${late}`,
    `const w = watch(event.fd, wake, { ...options, ref: false }, calls); w.ref(); ${late}`,
  ].map(async (program) => {
    const { status, stdout, stderr } = await run(setup, program)
    t.same({ status, stdout, stderr }, { status: 0, stdout: 'woke', stderr: '' }, 'a watch keeps it alive')
  })
  const left = [
    `const w = watch(event.fd, wake, { ...options, ref: false }, calls); ${never}`,
    `const w = watch(event.fd, wake, options, calls); ${never}; setTimeout(() => w.unref(), 50)`,
    `const w = watch(event.fd, wake, options, calls); ${never}; setTimeout(() => w.close(), 50)`,
  ].map(async (program) => {
    const { status, stdout, stderr, tookMs } = await run(setup, program)
    t.same(
      { status, stdout, stderr },
      { status: 0, stdout: '', stderr: '' },
      'a watch does not keep it alive',
    )
    t.ok(tookMs < 50_000, `${tookMs} ms`)
  })
  const ended = run(
    setup,
    `for (let i = 0; i < 10; i++) {
       const ready = new EventFd(calls)
       ready.signal()
       watch(ready.fd, () => {}, options, calls)
     }
     setTimeout(() => process.exit(7), 100)`,
  ).then(({ status, stderr }) => {
    // in a worker, process.exit ends that thread alone, and the process then has nothing more to do
    t.same(
      { status, stderr },
      { status: setup.worker ? 0 : 7, stderr: '' },
      'it ends while descriptors are ready',
    )
  })
  const thrown = run(
    setup,
    `watch(event.fd, () => { throw new Error('from the handler') }, options, calls); event.signal()`,
  ).then(({ status, stderr }) => {
    t.equal(status, 1, 'an exception that nobody takes ends it')
    t.match(stderr, /Error: from the handler/)
  })
  await Promise.all([...kept, ...left, ended, thrown])
}

const data = workerData as {
  setup?: Setup
  partner?: [number, number, ProviderName]
  slow?: [number, ProviderName]
}
if (isMainThread) await main()
else if (data.partner) {
  const [pingFd, pongFd, provider] = data.partner
  const calls = systemCalls(provider)
  const [ping, pong] = [new EventFd(calls, pingFd), new EventFd(calls, pongFd)]
  for (let round = 0; round < 10_000; round++) {
    calls.poll([{ fd: ping.fd, events: abi.POLLIN }], -1)
    ping.drain()
    pong.signal()
  }
} else if (data.slow) {
  const event = new EventFd(systemCalls(data.slow[1]), data.slow[0])
  setInterval(() => event.signal(), 20)
} else if (data.setup) {
  for (const [name, check] of Object.entries(contract)) {
    const failure = await check(data.setup).then(
      () => undefined,
      (error) => (error as Error).stack,
    )
    parentPort!.postMessage({ name, failure })
  }
}
