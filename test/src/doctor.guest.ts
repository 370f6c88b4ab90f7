import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync } from 'node:fs'
import { createInterface } from 'node:readline'
import {
  bindDevice,
  type CheckResult,
  examineDevice,
  listPciDevices,
  openVfio,
  readPciDevice,
  unbindDevice,
} from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import t, { type Test } from 'tap'
import { uaccel, uaccelBin } from './uaccel.js'

/**
 * Runs in the lab, with edu on the root bus, and edu and a virtio-rng behind a conventional bridge, which share an IOMMU
 * group: each thing that is in the way is found, and mended by the command that is printed for it.
 */
const bdf = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')!.bdf
const behindBridge = listPciDevices().filter((device) => !device.bdf.startsWith('0000:00:'))
const second = behindBridge.find(({ vendor, device }) => vendor === 0x1234 && device === 0x11e8)!.bdf
const neighbour = behindBridge.find(({ driver }) => driver === 'virtio-pci')!.bdf
/** A user without any right. */
const NOBODY = 65534
/** Runs what follows as that user, who may read these programs wherever they lie, in the home of root as well. */
const asNobody = [
  ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
  ...['--inh-caps=-all,+dac_read_search', '--ambient-caps=+dac_read_search'],
]

t.setTimeout(500_000)

interface Answer {
  readonly ok: boolean
  readonly findings: readonly CheckResult[]
}

const finding = ({ findings }: Answer, id: string) => findings.find((each) => each.id === id)!

/** Runs the commands of the first fix in a shell of root. */
function mend({ fixes }: CheckResult): void {
  execFileSync('sh', ['-e'], { input: fixes![0]!.commands.join('\n'), stdio: ['pipe', 'ignore', 'inherit'] })
}

async function opens(t: Test, address: string): Promise<void> {
  const transport = await openVfio(address)
  t.equal(transport.read(0, 0, 4), 0x010000ed, 'a driver can open it')
  await transport.close()
}

t.test('a device that a driver can open', async (t) => {
  const { code, stdout, stderr } = await uaccel(['doctor', bdf])
  t.match({ code, stderr }, { code: 0, stderr: '' }, stdout)
  t.match(stdout, /^ {2}ok {6}IOMMU: dmar0: \d+ groups, addresses of \d+ bits$/m)
  t.match(stdout, /^ {2}ok {6}Kernel driver: vfio-pci$/m)
  t.match(stdout, /^ {2}ok {6}Interrupts: INTx \(pin A\), MSI \(1\)$/m)
  t.match(stdout, `A driver of this user could open ${bdf}.\n`)
  t.notMatch(stdout, '\x1b[')
  for (const line of stdout.split('\n')) t.ok(line.length <= 80 || /^ {14}\S/.test(line), line)
})

t.test('a device that is not bound', async (t) => {
  await unbindDevice(bdf)
  const { code, stdout } = await uaccel(['doctor', bdf, '--json'])
  t.equal(code, 1)
  const answer = JSON.parse(stdout) as Answer
  t.match(finding(answer, 'driver'), { status: 'failed', found: 'none' })
  t.strictSame(
    answer.findings.filter(({ status }) => status === 'failed').map(({ id }) => id),
    ['driver'],
  )
  mend(finding(answer, 'driver'))
  t.match(examineDevice(bdf), { ok: true })
  await opens(t, bdf)
})

t.test('a group of which the kernel uses another device', async (t) => {
  await bindDevice(second)
  const answer = examineDevice(second)
  t.match(finding(answer, 'group-viable'), { status: 'failed', found: `${neighbour} (virtio-pci)` })
  mend(finding(answer, 'group-viable'))
  t.equal(readPciDevice(neighbour).driver, undefined)
  t.match(examineDevice(second), { ok: true })
  await opens(t, second)
})

t.test('a user without the right to the nodes', async (t) => {
  const examine = () => {
    try {
      const args = [...asNobody.slice(1), process.execPath, uaccelBin, 'doctor', bdf, '--json']
      return { code: 0, answer: JSON.parse(execFileSync(asNobody[0]!, args, { encoding: 'utf8' })) as Answer }
    } catch (error) {
      const { status, stdout } = error as { status: number; stdout: string }
      return { code: status, answer: JSON.parse(stdout) as Answer }
    }
  }
  const before = examine()
  const group = `/dev/vfio/${readPciDevice(bdf).iommuGroup!.id}`
  t.equal(before.code, 1)
  t.match(finding(before.answer, 'permission'), {
    status: 'failed',
    found: `nobody may not open ${group}`,
    fixes: [{ commands: [`chown nobody ${group}`] }],
  })
  t.teardown(() => chownSync(group, 0, 0))
  mend(finding(before.answer, 'permission'))
  const after = examine()
  t.equal(after.code, 0)
  t.match(after.answer, { ok: true })
  process.setegid!(NOBODY)
  process.seteuid!(NOBODY)
  await opens(t, bdf)
  process.seteuid!(0)
  process.setegid!(0)
})

const core = JSON.stringify(import.meta.resolve('@uaccel/core'))

t.test('a user who may lock little memory', async (t) => {
  const group = `/dev/vfio/${readPciDevice(bdf).iommuGroup!.id}`
  chownSync(group, NOBODY, NOBODY)
  t.teardown(() => chownSync(group, 0, 0))
  // a shell into which that user types
  const shell = spawn('prlimit', ['--memlock=65536:65536', ...asNobody, 'sh'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  })
  t.teardown(() => shell.kill('SIGKILL'))
  const before = JSON.parse(
    await type(shell, `${process.execPath} ${uaccelBin} doctor ${bdf} --json`),
  ) as Answer
  t.equal(before.ok, false)
  const memlock = finding(before, 'memlock')
  t.match(memlock, {
    status: 'failed',
    found: 'up to 64 KiB',
    fixes: [{ commands: [`prlimit --memlock=unlimited --pid ${shell.pid}`] }],
  })
  mend(memlock)
  const after = JSON.parse(
    await type(shell, `${process.execPath} ${uaccelBin} doctor ${bdf} --json`),
  ) as Answer
  t.match(finding(after, 'memlock'), { status: 'ok' })
  t.equal(after.ok, true)
  const program = `import { openDevice, openVfio } from ${core}
    const transport = await openVfio("${bdf}")
    const device = openDevice(transport)
    console.log(device.dma.alloc(8 << 20).sizeBytes)
    await device.release()
    await transport.close()`
  const printed = await type(shell, `${process.execPath} --input-type=module -e '${program}'`)
  t.equal(printed, `${8 << 20}\n`)
})

/** Types a command into a shell, and reads what it prints. */
async function type(shell: ChildProcess, command: string): Promise<string> {
  shell.stdin!.write(`${command}; echo "[end]"\n`)
  let text = ''
  const lines = createInterface({ input: shell.stdout! })
  for await (const line of lines) {
    if (line === '[end]') break
    text += `${line}\n`
  }
  return text
}

t.test('a device that a program holds', async (t) => {
  const transport = await openVfio(bdf)
  t.match(finding(examineDevice(bdf), 'holder'), {
    status: 'failed',
    found: `(process ${process.pid}, this one)`,
  })
  await transport.close()
  const holder = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { openVfio } from ${core}; await openVfio('${bdf}'); console.log(1); setInterval(() => {}, 1e6)`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await once(holder.stdout!, 'data')
  const exit = once(holder, 'exit')
  const held = finding(examineDevice(bdf), 'holder')
  t.match(held, { status: 'failed', fixes: [{ commands: [`kill ${holder.pid}`] }] })
  mend(held)
  await exit
  t.match(examineDevice(bdf), { ok: true })
  await opens(t, bdf)
})
