import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { abi, sys } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { Numbers } from './numbers.js'
import { makeFolder, placeSocket, removeDead } from './place.js'

const own = { mode: 0o600, uid: -1, gid: -1 }
const stranger = 65_534

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-place-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

t.test('a lock of the folder itself, which every user may take, keeps no server out', async (t) => {
  const folder = folderOf(t)
  const held = sys.open(folder, abi.O_RDONLY)
  t.ok(sys.lockFile(held))
  const placed = await placeSocket(folder, 'accel0', own)
  t.same(readdirSync(folder), ['accel0'], 'nothing else is left')
  sys.close(placed.fd)
  await removeDead(folder, 'accel0')
  t.same(readdirSync(folder), [])
  sys.close(held)
})

t.test(
  'those who place at the same time wait for each other, and a lock that was left is none',
  async (t) => {
    const folder = folderOf(t)
    writeFileSync(join(folder, '.lock'), '')
    const names = Array.from({ length: 20 }, (_, i) => `accel${i}`)
    const placed = await Promise.all(names.map((name) => placeSocket(folder, name, own)))
    t.same(readdirSync(folder).sort(), [...names].sort())
    for (const { fd, remove } of placed) {
      remove()
      sys.close(fd)
    }
    const lock = join(folder, '.lock')
    const held = sys.open(lock, abi.O_RDWR | abi.O_CREAT)
    t.ok(sys.lockFile(held))
    t.equal(statSync(lock).mode & 0o777, 0o600, 'nobody else can open it')
    const waiting = placeSocket(folder, 'accel0', own)
    setTimeout(() => sys.close(held), 200)
    sys.close((await waiting).fd)
  },
)

t.test('a folder that others own or may write to is refused', async (t) => {
  const parent = folderOf(t)
  const folder = join(parent, 'nodes')
  mkdirSync(folder)
  chmodSync(folder, 0o777)
  await t.rejects(placeSocket(folder, 'accel0', own), {
    code: 'ERR_ACCEL_PERMISSION',
    message: /nodes can be changed by every user: it is to be/,
  })
  chmodSync(folder, 0o1777)
  makeFolder(folder)
  chmodSync(folder, 0o755)
  makeFolder(folder)
  t.same(readdirSync(folder), [])
  if (process.geteuid?.() !== 0) return t.comment('only root can give a folder away')
  chownSync(folder, stranger, stranger)
  t.throws(() => makeFolder(folder), { code: 'ERR_ACCEL_PERMISSION', message: /belongs to / })
})

t.test('numbers are not written through a link', async (t) => {
  const folder = folderOf(t)
  const target = join(folder, 'target')
  writeFileSync(target, 'precious')
  symlinkSync(target, join(folder, '.numbers.json.new'))
  new Numbers(folder).keep(new Map([['vfio 0000:00:05.0', 3]]))
  t.equal(statSync(target).size, 'precious'.length)
  t.same(
    new Numbers(folder).assign([{ key: 'vfio 0000:00:05.0', number: undefined }]).get('vfio 0000:00:05.0'),
    3,
  )
})
