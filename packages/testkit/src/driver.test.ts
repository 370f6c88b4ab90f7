import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { driverContract, eduUnderTest, servedModel } from './index.js'

t.setTimeout(120_000)

t.test('edu over loopback', async (t) =>
  driverContract(t, {
    ...eduUnderTest,
    open: async () => loopback(eduModel),
    lose: (transport) => transport.vanish(),
    verify: (transport) => transport.assertClean(),
  }),
)

const model = servedModel(t, new URL(import.meta.resolve('@uaccel/driver-edu/model')))
t.test('edu over vfio-user', async (t) =>
  driverContract(t, {
    ...eduUnderTest,
    open: model.connect,
    lose: model.kill,
    verify: async () => t.same(await model.violations(), [], 'the driver kept the rules of the device'),
  }),
)

t.test('what a served model writes is seen, and one that ends while it is asked is no hang', async (t) => {
  const client = fileURLToPath(new URL('./served-model.test.program.js', import.meta.url))
  const env = { PATH: process.env.PATH }
  const ended = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [client], { env, timeout: 20_000 }, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    )
  })
  t.match(ended, {
    code: 0,
    stdout: /# asked: ERR_ACCEL_CLOSED/,
    stderr: /^the model was reset$/m,
  })
})

const program = fileURLToPath(new URL('./driver.test.program.js', import.meta.url))

/** How the suite ends on a driver with that error, and what it printed. */
function withBug(bug: string): Promise<{ code: number; stdout: string }> {
  const env = { PATH: process.env.PATH, UACCEL_LEAK_ROUNDS: '1' } // the runner of this test is not to be that one's
  return new Promise((resolve) => {
    execFile(process.execPath, [program, bug], { env }, (error, stdout) =>
      resolve({ code: error ? Number(error.code) : 0, stdout }),
    )
  })
}

// Were one of these not to be noticed, a driver that passes would prove nothing. That leaks are noticed is for resources.test.ts.
for (const [bug, noticed] of [
  ['no recover', /not ok \d+ - a call that was aborted/],
  ['hasty recover', /not ok \d+ - a call that was aborted/],
  ['broken attribute', /not ok \d+ - all that it tells/],
] as const) {
  t.test(`a driver with a seeded error, ${bug}, fails`, async (t) => {
    const { code, stdout } = await withBug(bug)
    t.not(code, 0)
    t.match(stdout, noticed)
  })
}

t.test('and without one it passes', async (t) => t.match(await withBug('none'), { code: 0 }))
