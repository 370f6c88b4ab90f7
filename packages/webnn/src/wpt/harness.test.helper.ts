import {
  AssertionError,
  assertions,
  fail,
  OptionalFeatureUnsupported,
  shown,
} from './assertions.test.helper.js'

/**
 * As much of testharness.js (https://web-platform-tests.org/writing-tests/testharness-api.html) as tests of an interface without a page use. Tests
 * with promises run one after the other, once the scripts were read and the setup has ended.
 */
export type Status = 'pass' | 'fail' | 'notSupported'

/** What came of one test. */
export interface TestResult {
  readonly name: string
  readonly status: Status
  readonly message?: string
}

type Body = (t: TestObject) => unknown

/** One test has work of seconds: what takes longer fails, and those behind it run. */
const TEST_MS = 60_000

/** What the body of a test gets. */
class TestObject {
  readonly name: string
  /** Of an asynchronous test: when it has said that it is done, or that something does not hold. */
  readonly ended: Promise<void>
  readonly #cleanups: (() => unknown)[] = []
  readonly #abort = new AbortController()
  #failure: { readonly error: unknown } | undefined
  #resolve!: () => void
  #reject!: (error: unknown) => void

  constructor(name: string) {
    this.name = name
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.ended.catch(() => {})
  }

  add_cleanup(work: () => unknown): void {
    this.#cleanups.push(work)
  }
  step<A extends unknown[], R>(work: (...given: A) => R, self?: unknown, ...given: A): R | undefined {
    try {
      return work.apply(self ?? this, given)
    } catch (error) {
      this.#failure ??= { error }
      this.#reject(error)
      return undefined
    }
  }
  step_func<A extends unknown[], R>(
    work: (...given: A) => R,
    self?: unknown,
  ): (...given: A) => R | undefined {
    return (...given) => this.step(work, self, ...given)
  }
  step_func_done<A extends unknown[]>(
    work?: (...given: A) => unknown,
    self?: unknown,
  ): (...given: A) => void {
    return (...given) => {
      if (work) this.step(work, self, ...given)
      this.done()
    }
  }
  step_timeout<A extends unknown[]>(work: (...given: A) => unknown, ms: number, ...given: A): void {
    setTimeout(this.step_func(work), ms, ...given)
  }
  async step_wait(
    holds: () => unknown,
    what = 'a condition',
    timeoutMs = 3000,
    intervalMs = 100,
  ): Promise<void> {
    const start = performance.now()
    while (!(await holds())) {
      if (performance.now() - start > timeoutMs) fail(`${what} does not hold within ${timeoutMs} ms`)
      await new Promise((resolve) => setTimeout(resolve, intervalMs))
    }
  }
  unreached_func(message: string): () => void {
    return this.step_func(() => fail(message))
  }
  get_signal(): AbortSignal {
    return this.#abort.signal
  }
  done(): void {
    this.#resolve()
  }

  /** @internal Throws what a step has thrown. */
  check(): void {
    if (this.#failure) throw this.#failure.error
  }
  /** @internal */
  async end(): Promise<void> {
    this.#abort.abort()
    for (const work of this.#cleanups.reverse()) await work()
  }
}

const failed = (name: string, error: unknown): TestResult => ({
  name,
  status: error instanceof OptionalFeatureUnsupported ? 'notSupported' : 'fail',
  message:
    error instanceof AssertionError
      ? error.message
      : error instanceof Error
        ? `${error.name}: ${error.message}`
        : shown(error),
})

async function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came of it within ${TEST_MS} ms`)), TEST_MS)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Puts the words of the harness into this program; `run` ends when all that was asked for has, and tells each result. */
export function installHarness(): { run(told: (result: TestResult) => void): Promise<void> } {
  const setups: (() => unknown)[] = []
  const tests: { readonly name: string; readonly run: (t: TestObject) => Promise<unknown> }[] = []
  const results: TestResult[] = []
  let tell = (result: TestResult): void => void results.push(result)
  let nameless = 0
  const nameOf = (name: string | undefined) => name ?? `a test without a name ${++nameless}`
  let [explicit, over] = [false, false]
  let changed = () => {}
  const changes = () =>
    new Promise<void>((resolve) => {
      changed = resolve
    })
  const add = (test: (typeof tests)[number]) => {
    tests.push(test)
    changed()
  }
  const words = {
    ...assertions,
    setup(first: unknown, second: unknown = first) {
      if ((second as { explicit_done?: boolean } | undefined)?.explicit_done) explicit = true
      if (typeof first === 'function') first()
    },
    promise_setup: (work: () => unknown) => void setups.push(work),
    promise_test(body: Body, name?: string) {
      add({
        name: nameOf(name),
        // What is done as steps may fail, too.
        run: async (t) => {
          await Promise.race([(async () => body(t))(), t.ended.then(() => new Promise(() => {}))])
          t.check()
        },
      })
    },
    async_test(first?: Body | string, second?: string) {
      const name = nameOf(typeof first === 'string' ? first : second)
      const t = new TestObject(name)
      if (typeof first === 'function') t.step(() => first(t))
      add({ name, run: () => t.ended.finally(() => t.end()) })
      return t
    },
    test(body: Body, name?: string) {
      const t = new TestObject(nameOf(name))
      try {
        body(t)
        t.check()
        tell({ name: t.name, status: 'pass' })
      } catch (error) {
        tell(failed(t.name, error))
      }
      void t.end()
    },
    done() {
      over = true
      changed()
    },
    step_timeout: (work: () => void, ms: number, ...given: []) => setTimeout(work, ms, ...given),
    // common/subset-tests.js and subset-tests-by-key.js, with no subset asked for
    subsetTest: (add: (...given: unknown[]) => void, ...given: unknown[]) => add(...given),
    subsetTestByKey: (_: string, add: (...given: unknown[]) => void, ...given: unknown[]) => add(...given),
    self: globalThis,
    GLOBAL: { isWindow: () => true, isWorker: () => false, isShadowRealm: () => false },
  }
  Object.assign(globalThis, words)
  fillIn()
  return {
    async run(told) {
      tell = told
      for (const result of results) told(result)
      process.on('unhandledRejection', (error) => told(failed('a promise that nobody waits for', error)))
      let broken: unknown
      try {
        for (const work of setups) await within((async () => work())())
      } catch (error) {
        broken = error ?? new Error('the setup has failed')
      }
      // Tests may add others; those of a file with explicit_done come any time before it says so.
      for (let at = 0; at < tests.length || (explicit && !over); ) {
        if (at === tests.length) {
          try {
            await within(changes())
          } catch (error) {
            told(failed('done()', error))
            over = true
          }
          continue
        }
        const { name, run } = tests[at++]!
        if (broken !== undefined) {
          told(failed(name, broken))
          continue
        }
        const t = new TestObject(name)
        try {
          await within(run(t))
          await t.end()
          told({ name, status: 'pass' })
        } catch (error) {
          told(failed(name, error))
        }
      }
    },
  }
}

/** What browsers have that run the suite, and Node 20 has not. */
function fillIn(): void {
  const add = (prototype: object, name: string, value: unknown) => {
    if (!(name in prototype))
      Object.defineProperty(prototype, name, { configurable: true, writable: true, value })
  }
  add(Set.prototype, 'difference', function (this: Set<unknown>, other: Set<unknown>) {
    return new Set([...this].filter((each) => !other.has(each)))
  })
  add(ArrayBuffer.prototype, 'transfer', function (this: ArrayBuffer) {
    return structuredClone(this, { transfer: [this] })
  })
}
