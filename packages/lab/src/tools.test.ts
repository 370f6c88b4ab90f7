import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { aptDistribution } from './apt.js'
import { refusedSymbols } from './build-kernel.js'
import { byVersion, demandTools, describeLab, findLab } from './tools.js'

const folder = await mkdtemp(join(tmpdir(), 'lab-tools-'))
t.teardown(() => rm(folder, { recursive: true }))

t.test('nothing is found where there is nothing, and each thing that is missing is named', async (t) => {
  const { PATH, UACCEL_LAB_KERNEL, UACCEL_LAB_QEMU, XDG_CACHE_HOME } = process.env
  t.teardown(() => {
    process.env.PATH = PATH
    for (const [name, value] of Object.entries({ UACCEL_LAB_KERNEL, UACCEL_LAB_QEMU, XDG_CACHE_HOME })) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  })
  delete process.env.UACCEL_LAB_QEMU
  process.env.PATH = join(folder, 'bin')
  process.env.XDG_CACHE_HOME = join(folder, 'cache')
  const image = join(folder, 'bzImage')
  await writeFile(image, '')
  process.env.UACCEL_LAB_KERNEL = image

  const nothing = await findLab()
  t.equal(nothing.qemu, undefined)
  t.equal(nothing.busyboxPath, undefined)
  t.match(nothing.kernel, { image, source: 'UACCEL_LAB_KERNEL' })
  t.match(nothing.missing, [
    /^setpriv .*util-linux/,
    /^qemu-system-x86_64 .*qemu-system-x86/,
    /busybox-static/,
  ])
  t.equal(nothing.missing.length, 3)
  t.throws(() => demandTools({ ...nothing, canFetch: false }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /Debian and Ubuntu only[\s\S]*- setpriv[\s\S]*- qemu-system-x86_64[\s\S]*- a busybox/,
  })

  await mkdir(join(folder, 'bin'))
  for (const program of ['setpriv', 'qemu-system-x86_64', 'busybox']) {
    await writeFile(join(folder, 'bin', program), '#!/bin/sh\n')
    await chmod(join(folder, 'bin', program), 0o755)
  }
  const some = await findLab()
  t.equal(some.qemu!.path, join(folder, 'bin/qemu-system-x86_64'))
  t.equal(some.busyboxPath, undefined, 'a busybox that is no static ELF program does not count')
  t.match(describeLab(some), [
    /^qemu .*\(PATH\)/,
    /^kernel .*\(UACCEL_LAB_KERNEL\)/,
    /^cache/,
    /^missing .*busybox/,
  ])

  process.env.UACCEL_LAB_KERNEL = join(folder, 'no-such-file')
  await t.rejects(
    findLab(),
    { code: 'ERR_ACCEL_NOT_FOUND', message: /no-such-file/ },
    'a wrong name is no silence',
  )
})

t.test('which distributions it fetches on', async (t) => {
  const release = join(folder, 'os-release')
  const given = async (text: string) => {
    await writeFile(release, text)
    return aptDistribution(release)
  }
  t.strictSame(await given('ID=debian\nVERSION_CODENAME=bookworm\n'), { id: 'debian', codename: 'bookworm' })
  t.strictSame(
    await given('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n'),
    { id: 'ubuntu', codename: 'noble' },
  )
  await t.rejects(given('ID=fedora\nPRETTY_NAME="Fedora Linux 40"\n'), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /Fedora Linux 40/,
  })
})

t.test('versions and configurations', async (t) => {
  t.strictSame(['6.10.1', '6.9', '6.1.0-9', '6.1.0-10'].sort(byVersion), [
    '6.1.0-9',
    '6.1.0-10',
    '6.9',
    '6.10.1',
  ])
  t.strictSame(
    refusedSymbols(
      '# c\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=16\n',
      '\nCONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\nCONFIG_D=y\nCONFIG_E=8\n',
    ),
    ['CONFIG_B=y', 'CONFIG_D=n', 'CONFIG_E=16'],
  )
})
