import t from 'tap'
import { Spin } from './spin.js'

/** Work that ends by itself after some milliseconds, or never; whose end is seen by looking, or told by an interrupt. */
class Work {
  looks = 0
  settled = false
  worth = true
  readonly #endMs: number
  #told: (() => void) | undefined

  constructor(takesMs: number) {
    this.#endMs = performance.now() + takesMs
  }

  look(): boolean {
    this.looks++
    if (performance.now() >= this.#endMs) this.settle()
    return this.worth
  }

  settle(): void {
    this.settled = true
    this.#told?.()
  }

  whenSettled(): Promise<void> {
    return new Promise((resolve) => {
      this.#told = resolve
    })
  }
}

const over = (forUs: number, current: () => Work) => new Spin({ forUs, look: () => current().look() })

t.test('short work is found in the call', async (t) => {
  const work = new Work(0.2)
  const spin = over(5000, () => work)
  spin.look(work)
  t.ok(work.settled && work.looks > 0)
})

t.test('a turn is spun for as long as four waits, and the next one again', async (t) => {
  let work = new Work(1e9)
  const spin = over(2000, () => work)
  const spent = () => {
    const start = performance.now()
    spin.look(work)
    return performance.now() - start
  }
  let spentMs = 0
  for (let waits = 0; waits < 8; waits++) spentMs += spent()
  t.ok(spentMs >= 8)
  const { looks } = work
  spin.look(work)
  t.equal(work.looks, looks, 'nothing is left of this turn')
  await new Promise((resolve) => setImmediate(resolve))
  work = new Work(0)
  spin.look(work)
  t.ok(work.settled)
})

t.test(
  'what takes long is waited for, and spun for less and less; what becomes short is found again',
  async (t) => {
    let work: Work
    const spin = over(2000, () => work)
    const looked: number[] = []
    for (let at = 0; at < 8; at++) {
      work = new Work(1e9)
      const start = performance.now()
      const worth = spin.look(work)
      looked.push(performance.now() - start)
      const waiting = spin.wait(work, worth)
      setTimeout(() => work.settle(), 5)
      await waiting
    }
    t.ok(looked[0]! >= 2 && Math.min(...looked.slice(5)) < 1, `${looked}`)
    let found = 0
    for (let at = 0; at < 100 && found === 0; at++) {
      // In a turn of its own: what was spun for in vain is not left of it.
      await new Promise((resolve) => setImmediate(resolve))
      work = new Work(1)
      const worth = spin.look(work)
      if (work.settled) found++
      else {
        // Looked for as long as it is spun for, and then told.
        work.look = () => true
        const waiting = spin.wait(work, worth)
        setTimeout(() => work.settle(), 3)
        await waiting
      }
    }
    t.equal(found, 1, 'one in so many is spun for in full')
  },
)

t.test('a device that is not worth it is not looked at again', async (t) => {
  const work = new Work(1e9)
  work.worth = false
  const spin = over(1e6, () => work)
  const worth = spin.look(work)
  t.strictSame([worth, work.looks], [false, 1])
  const waiting = spin.wait(work, worth)
  work.settle()
  await waiting
  t.equal(work.looks, 1)
})

t.test('what was not looked for because it was not worth it says nothing of what is', async (t) => {
  let work = new Work(1e9)
  const spin = over(2000, () => work)
  for (let at = 0; at < 8; at++) {
    work = new Work(1e9)
    work.worth = false
    const waiting = spin.wait(work, spin.look(work))
    work.settle()
    await waiting
  }
  await new Promise((resolve) => setImmediate(resolve))
  work = new Work(1)
  spin.look(work)
  t.ok(work.settled)
})
