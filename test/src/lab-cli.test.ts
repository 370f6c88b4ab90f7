import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { uaccel, uaccelBin } from './uaccel.js'

t.setTimeout(600_000)

const TMPDIR = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(TMPDIR, { recursive: true }))
const lab = (...args: string[]) => uaccel(['lab', ...args], { env: { TMPDIR } })

/** A limit in seconds that leaves room for the boot, on this machine as it is now. */
let limit = 20

t.test('the output and the exit code are those of the command', async (t) => {
  await lab('--quiet', '--', 'true') // the first run on a machine fetches the guest
  const start = performance.now()
  const version = await lab('--', 'uname', '-r')
  limit = Math.max(limit, Math.ceil((3 * (performance.now() - start)) / 1000))
  t.match(version, { code: 0, stdout: /^\d+\.\d+\S*\n$/, stderr: /^lab: run uname -r$/m })
  t.not(
    version.stdout.trim(),
    readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    "the guest's kernel",
  )
  t.strictSame(await lab('--quiet', '--', 'false'), { code: 1, stdout: '', stderr: '' })
  t.match(await lab('--quiet', '--', 'no-such-program'), { code: 127, stderr: /no-such-program: not found/ })
  t.strictSame(readdirSync(TMPDIR), [])
})

t.test('a command that does not end is stopped at the limit, with its log', async (t) => {
  const { code, stdout, stderr } = await lab(
    '--limit',
    String(limit),
    '--',
    'sh',
    '-c',
    'echo I hang; sleep 1000',
  )
  t.equal(code, 1)
  t.equal(stdout, 'I hang\n')
  const [, path] = /its log is in (\S+) and ends:\n.*I hang.* \(ERR_ACCEL_TIMEOUT\)\n$/s.exec(stderr) ?? []
  t.ok(path, stderr)
  t.match(readFileSync(path!, 'utf8'), /I hang/)
  rmSync(path!)
  t.strictSame(readdirSync(TMPDIR), [])
})

t.test('a real device on kernel VFIO', async (t) => {
  const script = 'for c in "list" "reg read 00:05.0 ID" "config 00:05.0"; do "$0" "$1" $c || exit; done'
  const { code, stdout, stderr } = await lab(
    '--quiet',
    ...['--device', 'edu', '--', 'sh', '-c', script, process.execPath, uaccelBin],
  )
  t.equal(code, 0, stderr)
  t.match(stdout, /^0000:00:05\.0 +1234:11e8 +00ff00 +\d+ +\S+ +vfio-pci, (type1|iommufd) +edu /m)
  t.match(stdout, /^ID = 0x010000ed {2}major=1 {2}minor=0 {2}tag=237$/m)
  t.match(stdout, /^ {2}\[0x40\] +MSI: /m)
})

t.test('what there is and what is missing', async (t) => {
  const all = await lab('--check')
  t.match(all, { code: 0, stdout: /^qemu +\/.*^vfio-user +(QEMU|none: needs).*^kernel +\/.*^cache +\//ms })
  t.notMatch(all.stdout, /^missing/m, 'the lab has run by now')
  const PATH = mkdtempSync(join(TMPDIR, 'bin-'))
  const nothing = await uaccel(['lab', '--check'], { env: { TMPDIR, PATH, XDG_CACHE_HOME: PATH } })
  t.match(nothing.stdout, /^missing +setpriv .*^missing +qemu-system-x86_64 .*^missing +a busybox/ms)
  rmSync(PATH, { recursive: true })
})

t.test('a device that the lab does not know', async (t) => {
  t.match(await lab('--device', 'frobnicator', '--', 'true'), {
    code: 3,
    stdout: '',
    stderr: /no lab device is named 'frobnicator'; there are edu, .*ERR_ACCEL_NOT_FOUND/,
  })
})
