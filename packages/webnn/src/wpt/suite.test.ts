import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { countAll } from './count.test.helper.js'
import { filesOf, runFile, variantOf } from './suite.test.helper.js'

/* Scripts as those of the web-platform-tests are, and what they include, by the program that runs the suite's. */

const conformance = `// META: title=a file
// META: global=window
// META: variant=?cpu
// META: variant=?npu
// META: script=../resources/own.js
// META: script=/resources/testharness.js
'use strict'
let context
promise_setup(async () => {
  context = await navigator.ml.createContext({ deviceType: location.search.substring(1) })
})
promise_test(async (t) => {
  const builder = new MLGraphBuilder(context)
  const x = builder.input('x', own)
  const graph = await builder.build({ y: builder.relu(builder.neg(x)) })
  const [from, to] = [await context.createTensor({ ...own, writable: true }), await context.createTensor({ ...own, readable: true })]
  t.add_cleanup(() => graph.destroy())
  context.writeTensor(from, Float32Array.of(1, -2))
  context.dispatch(graph, { x: from }, { y: to })
  assert_array_equals(new Float32Array(await context.readTensor(to)), [0, 2])
}, 'a graph')
promise_test(async () => assert_throws_js(RangeError, () => new MLGraphBuilder()), 'another error')
promise_test(async () => assert_throws_js(TypeError, () => {}), 'no error')
promise_test(async () => assert_implements_optional(false, 'halves'), 'what is not there')
promise_test(async () => assert_true(false), 'relu float16, which is not counted')
test(() => assert_equals(location.search, '?cpu'), 'at once')
`

/** Helpers as a suite of validation has them: of each, what has to be refused and how. */
const helpers = `'use strict'
const types = ['float32', 'float16', 'int32', 'uint32', 'int64', 'uint64', 'int8', 'uint8']
let context
promise_setup(async () => {
  assert_implements(navigator.ml && isSecureContext, 'there is no WebNN')
  context = await navigator.ml.createContext(variantOptions())
})
function variantOptions() {
  const deviceType = location.search.substring(1)
  return ['cpu', 'gpu', 'npu'].includes(deviceType) ? { deviceType } : {}
}
function assertThrowsWithLabel(work, label) {
  try {
    work()
  } catch (error) {
    assert_equals(error.name, 'TypeError')
    assert_regexp_match(error.message, new RegExp('\\\\[' + label + '\\\\]'))
    return
  }
  assert_unreached('it is taken')
}
function eachType(operator) {
  for (const dataType of types) {
    promise_test(async (t) => {
      const builder = new MLGraphBuilder(context)
      const limits = context.opSupportLimits()
      if (!limits.input.dataTypes.includes(dataType)) {
        assert_throws_js(TypeError, () => builder.input('input', { dataType, shape: [2] }))
        return
      }
      const input = builder.input('input', { dataType, shape: [2] })
      if (limits[operator].input.dataTypes.includes(dataType)) {
        const output = builder[operator](input)
        assert_equals(output.dataType, dataType)
        assert_array_equals(output.shape, [2])
        assert_class_string(await builder.build({ output }), 'MLGraph')
      } else {
        assertThrowsWithLabel(() => builder[operator](input, { label: 'own_label' }), 'own_label')
      }
      const other = new MLGraphBuilder(context).input('input', { dataType, shape: [2] })
      assert_throws_js(TypeError, () => new MLGraphBuilder(context)[operator](other))
    }, operator + ' of ' + dataType)
  }
}
`

const validation = `// META: title=validation of an operator
// META: global=window,worker
// META: timeout=long
// META: variant=?cpu
// META: variant=?gpu
// META: variant=?npu
// META: script=/common/own-global.js
// META: script=/common/not-there.js
// META: script=../resources/own_validation.js

'use strict'

eachType('gelu')

promise_test(async (t) => {
  const builder = new MLGraphBuilder(context)
  const error = new Error('own')
  assert_throws_exactly(error, () => builder.input({ toString() { throw error } }, {}))
  assert_throws_dom('InvalidStateError', () => { throw new DOMException('', 'InvalidStateError') })
  assert_throws_dom('InvalidStateError', DOMException, () => { throw new DOMException('', 'InvalidStateError') })
  await promise_rejects_js(t, TypeError, builder.build({}))
  await promise_rejects_exactly(t, error, Promise.reject(error))
  const lost = await self.navigator.ml.createContext()
  const pending = lost.createTensor({ dataType: 'float32', shape: [1] })
  lost.destroy()
  await promise_rejects_dom(t, 'InvalidStateError', pending)
  assert_equals(typeof (await lost.lost).message, 'string')
}, 'errors of each kind')

promise_test(async () => {
  const buffer = new ArrayBuffer(8)
  buffer.transfer()
  const builder = new MLGraphBuilder(context)
  assert_throws_js(TypeError, () => builder.constant({ dataType: 'float32', shape: [2] }, buffer))
}, 'a buffer that was transferred')

promise_test(async () => {
  await new Promise((resolve) => step_timeout(resolve, 1))
  assert_equals((await navigator.ml.createContext({ accelerated: false })).accelerated, false)
  assert_equals(context.accelerated, location.search === '?npu')
}, 'accelerated')

test(() => {
  for (const [name, attributes] of [['MLContext', ['lost', 'accelerated']], ['MLTensor', ['shape']], ['MLOperand', ['dataType']]]) {
    assert_own_property(self, name)
    assert_throws_js(TypeError, () => new self[name]())
    for (const attribute of attributes) {
      assert_own_property(self[name].prototype, attribute)
      assert_throws_js(TypeError, () => self[name].prototype[attribute])
    }
  }
  assert_true(navigator.ml instanceof ML)
  assert_class_string(navigator.ml, 'ML')
  assert_inherits(navigator.ml, 'missing')
}, 'interfaces')
`

const harness = `// META: script=/common/own-global.js
setup({ explicit_done: true })
setup(() => { self.wasSetUp = true })
test((t) => t.step(() => assert_true(false, 'in a step')), 'a step of a test at once')
async_test((t) => t.step_timeout(() => { assert_true(wasSetUp); t.done() }, 1), 'asynchronous')
async_test((t) => { t.step_timeout(t.unreached_func('that comes'), 1) }, 'asynchronous, and wrong')
promise_test(async (t) => {
  t.step_func(() => assert_equals(0, -0))()
}, 'a step of a test with promises')
promise_test(async (t) => {
  Promise.reject(new Error('unheard'))
  await t.step_wait(() => ownGlobal === 1)
}, 'one whose promise nobody waits for')
promise_test(async () => {
  promise_test(async () => assert_object_equals({ a: [1] }, { a: [1] }), 'one that another has added')
  assert_any(assert_equals, 2, [1, 2])
  assert_readonly(Object.freeze({ a: 1 }), 'a')
  assert_between_inclusive(1, 1, 2)
  assert_approx_equals(1, 1.1, 0.2)
}, 'one that adds')
setTimeout(() => {
  test(() => {}, 'late, and at once')
  promise_test(async () => {}, 'late')
  promise_test(async () => done(), 'the last')
}, 50)
`

function checkoutOf(t: Test, files: Readonly<Record<string, string>>): string {
  const checkout = mkdtempSync(join(tmpdir(), 'uaccel-suite-'))
  t.teardown(() => rmSync(checkout, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(checkout, name)), { recursive: true })
    writeFileSync(join(checkout, name), text)
  }
  return checkout
}

t.test('scripts of conformance, and how they are counted', async (t) => {
  const file = 'webnn/conformance_tests/relu.https.any.js'
  const checkout = checkoutOf(t, {
    [file]: conformance,
    'webnn/resources/own.js': "const own = { dataType: 'float32', shape: [2] }\n",
    'webnn/conformance_tests/broken.https.any.js': '// META: script=/none.js\n',
  })
  t.equal(variantOf(checkout, file, 'cpu'), '?cpu')
  const results = await runFile(checkout, file)
  t.same(
    results.map(({ name, status }) => [name, status]),
    [
      ['at once', 'pass'],
      ['a graph', 'pass'],
      ['another error', 'fail'],
      ['no error', 'fail'],
      ['what is not there', 'notSupported'],
      ['relu float16, which is not counted', 'fail'],
    ],
  )
  t.match(results[2]!.message, /RangeError is wanted, found TypeError/)
  t.match(results[3]!.message, /throws nothing/)
  const counts = await countAll(checkout, ['CPU'])
  const [relu] = counts.parts.get('conformance_tests')!.get('relu')!
  t.match(relu, { tests: 4, passed: 2, at: { cpu: 1, device: 0, free: 0 } })
  const [broken] = counts.parts.get('conformance_tests')!.get('broken')!
  t.match(broken!.failures, [/none.js, which is not there/])
  t.equal(counts.parts.get('validation_tests')!.size, 0)
})

t.test('scripts of validation', async (t) => {
  const file = 'webnn/validation_tests/gelu.https.any.js'
  const checkout = checkoutOf(t, {
    [file]: validation,
    'webnn/resources/own_validation.js': helpers,
    'common/own-global.js': 'self.ownGlobal = 1\n',
  })
  t.equal(variantOf(checkout, file, 'npu'), '?npu')
  t.same(filesOf(checkout, 'validation_tests'), [file])
  const failures = (await runFile(checkout, file)).filter(({ status }) => status !== 'pass')
  t.match(failures, [{ name: 'interfaces', message: 'no prototype has missing' }], 'and all else passes')
  t.equal(failures.length, 1)
  const counts = await countAll(checkout, ['CPU', 'NPU'])
  for (const count of counts.parts.get('validation_tests')!.get('gelu')!)
    t.match(count, { tests: 12, passed: 11, failures: [/interfaces/] })
})

t.test('words of the harness', async (t) => {
  const file = 'webnn/validation_tests/words.window.js'
  const checkout = checkoutOf(t, { [file]: harness, 'common/own-global.js': 'self.ownGlobal = 1\n' })
  const results = await runFile(checkout, file)
  const of = (status: string) => results.filter((each) => each.status === status).map(({ name }) => name)
  t.same(of('pass'), [
    'asynchronous',
    'one whose promise nobody waits for',
    'one that adds',
    'one that another has added',
    'late, and at once',
    'late',
    'the last',
  ])
  t.same(of('fail'), [
    'a step of a test at once',
    'asynchronous, and wrong',
    'a step of a test with promises',
    'a promise that nobody waits for',
  ])
})
