import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Spin } from './index.js'

/** A device that completes what the test says, and how often it was looked at. */
function device() {
  const state = { looks: 0, ready: 0, underWay: 0 }
  return {
    state,
    look() {
      state.looks++
      const took = state.ready
      state.ready = 0
      state.underWay -= took
      return took
    },
    busy: () => state.underWay > 0,
  }
}

t.test('without interrupts: until all has ended', async (t) => {
  const { state, ...hooks } = device()
  const spin = new Spin({ forUs: Infinity, ...hooks })
  state.underWay = 2
  spin.start()
  await sleep(20)
  t.ok(state.looks > 10)
  state.ready = 2
  await sleep(5)
  const { looks } = state
  await sleep(5)
  t.equal(state.looks, looks, 'then it rests')
})

t.test(
  'a spin in vain ends and is shorter the next time; one that found something is longer again',
  async (t) => {
    const { state, ...hooks } = device()
    const spin = new Spin({ forUs: 64_000, ...hooks })
    state.underWay = 1
    /** How long a spin goes on looking, in milliseconds. */
    const lasts = async () => {
      const start = performance.now()
      spin.start()
      for (let seen = -1; seen !== state.looks; ) {
        seen = state.looks
        await sleep(5)
      }
      return performance.now() - start
    }
    const first = await lasts()
    t.ok(first >= 64)
    for (let i = 0; i < 6; i++) await lasts()
    const { looks } = state
    const last = await lasts()
    t.ok(state.looks > looks, 'it still looks')
    t.ok(last < first / 2, `${last} ms after ${first} ms`)
    for (let i = 0; i < 6; i++) {
      state.underWay = state.ready = 1
      await lasts()
    }
    state.underWay = 1
    t.ok((await lasts()) >= 64)
  },
)

t.test('stopped, and never begun', async (t) => {
  const { state, ...hooks } = device()
  state.underWay = 1
  const spin = new Spin({ forUs: Infinity, ...hooks })
  spin.start()
  spin.stop()
  new Spin({ forUs: 0, ...hooks }).start()
  await sleep(5)
  t.equal(state.looks, 0)
})
