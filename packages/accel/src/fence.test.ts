import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { Timeline } from './fence.js'

t.test('a failure is of the values that its job was to reach, and of no others', async (t) => {
  const fence = new Timeline(1n)
  const [a, b, c] = [4n, 8n, 9n].map((value) => fence.promise(value))
  const error = accelError('ERR_ACCEL_IO', 'it broke')
  b!(error)
  t.equal(fence.value, 1n, 'the first comes first')
  a!()
  t.equal(fence.value, 8n)
  c!()
  t.equal(fence.value, 9n)
  t.same(
    [1n, 2n, 4n, 5n, 8n, 9n].map((value) => fence.failure(value)),
    [undefined, undefined, undefined, error, error, undefined],
  )
})

t.test('of many failures the oldest run together, and none is forgotten', async (t) => {
  const fence = new Timeline(0n)
  const errors = Array.from({ length: 600 }, (_, i) => accelError('ERR_ACCEL_IO', `${i}`))
  for (const [i, error] of errors.entries()) {
    fence.promise(BigInt(2 * i + 1))()
    fence.promise(BigInt(2 * i + 2))(error)
  }
  t.equal(fence.value, 1200n)
  t.ok(errors.every((_, i) => fence.failure(BigInt(2 * i + 2)) !== undefined))
  t.equal(fence.failure(1200n), errors.at(-1))
  t.equal(fence.failure(1199n), undefined)
})

t.test('watches end once, at the value or when nobody can reach it', async (t) => {
  const fence = new Timeline(0n)
  const told: string[] = []
  const watch = (value: bigint) => fence.watch(value, () => told.push(`${value}`))
  watch(0n)
  const forget = watch(1n)
  watch(2n)
  watch(3n)
  watch(7n)
  forget()
  const end = fence.promise(3n)
  t.same(told, ['0'])
  fence.close()
  t.same(told, ['0', '7'], 'what was promised will come')
  end()
  t.same(told, ['0', '7', '2', '3'])
  t.throws(() => fence.promise(3n), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
})
