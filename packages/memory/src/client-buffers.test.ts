import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { createSealedMemory, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { type CommonCaller, openBuffers } from './client-buffers.js'

const SIZE_BYTES = 8192

type Answers = Readonly<Record<string, () => unknown>>

/** A server that answers whatever the test says, and what it was asked. */
function server(answers: Answers) {
  const asked: string[] = []
  const common = async (name: string) => {
    asked.push(name)
    return answers[name]?.() ?? {}
  }
  return { asked, caller: { common } as unknown as CommonCaller }
}

const boCreate = () => ({ handle: 1, sizeBytes: BigInt(SIZE_BYTES) })
const part = (fd: number | null, sizeBytes = SIZE_BYTES) => ({ fd, offset: 0n, sizeBytes: BigInt(sizeBytes) })
/** MFD_ALLOW_SEALING (linux/memfd.h), and none of the seals. */
const MFD_ALLOW_SEALING = 2

function unsealed(): number {
  const fd = sys.memfdCreate('unsealed', MFD_ALLOW_SEALING)
  sys.ftruncate(fd, SIZE_BYTES)
  return fd
}

const descriptors = () => readdirSync('/proc/self/fd').length

t.test(
  'memory that its server could take away, or did not give, is not mapped, and is given back',
  async (t) => {
    const sealed = (sizeBytes: number) => createSealedMemory('sealed', sizeBytes).fd
    for (const [what, code, boMmap] of [
      ['unsealed', 'ERR_ACCEL_INVALID_ARGUMENT', () => part(unsealed())],
      ['too short a file', 'ERR_ACCEL_OUT_OF_RANGE', () => part(sealed(4096))],
      ['less than was wanted', 'ERR_ACCEL_PROTOCOL', () => part(sealed(4096), 4096)],
      ['no descriptor', 'ERR_ACCEL_PROTOCOL', () => part(null)],
      [
        'refused',
        'ERR_ACCEL_NO_MEMORY',
        () => {
          throw accelError('ERR_ACCEL_NO_MEMORY', 'no descriptor left')
        },
      ],
    ] as const) {
      const { caller, asked } = server({ boCreate, boMmap })
      const before = descriptors()
      await t.rejects(openBuffers(caller).create(SIZE_BYTES), { code }, what)
      t.same(asked, ['boCreate', 'boMmap', 'boDestroy'], what)
      t.equal(descriptors(), before, what)
    }
    const { caller } = server({ boCreate, boMmap: () => part(sealed(SIZE_BYTES)) })
    const buffer = await openBuffers(caller).create(SIZE_BYTES)
    t.equal(buffer.u8.length, SIZE_BYTES)
    await buffer.destroy()
  },
)

t.test('a file that shrinks under its reader ends it: why seals are asked for', async (t) => {
  const program = `
    import { Mapping, sys } from '@uaccel/sys'
    const fd = sys.memfdCreate('shrinks', ${MFD_ALLOW_SEALING})
    sys.ftruncate(fd, ${SIZE_BYTES})
    const { window } = Mapping.map({ fd, offset: 0, sizeBytes: ${SIZE_BYTES} })
    sys.ftruncate(fd, 0)
    process.exitCode = window.u8[0]
  `
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: import.meta.dirname,
    timeout: 60_000,
  })
  t.equal(signal, 'SIGBUS')
})

t.test('a fence that could not be made is made for the next job', async (t) => {
  let room = false
  const { caller } = server({
    fenceCreate() {
      if (room) return { handle: 7 }
      throw accelError('ERR_ACCEL_NO_MEMORY', 'the quota is used up')
    },
  })
  const buffers = openBuffers(caller)
  const job = { buffers: [], payload: new Uint8Array() }
  await t.rejects(buffers.run(job), { code: 'ERR_ACCEL_NO_MEMORY' })
  room = true
  await buffers.run(job)
})
