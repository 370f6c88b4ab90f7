import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { aptDistribution } from './apt.js'
import { refusedSymbols } from './build-kernel.js'
import { cacheFolder } from './cache.js'
import { which } from './files.js'
import { byVersion, demandTools, describeLab, findLab, prepareLab } from './tools.js'

const folder = await mkdtemp(join(tmpdir(), 'lab-tools-'))
t.teardown(() => rm(folder, { recursive: true }))

/** Puts back after a test what it changes in the environment. */
function keepEnvironment(t: Test): void {
  const before = { ...process.env }
  t.teardown(() => {
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, before)
  })
}

t.test('nothing is found where there is nothing, and each thing that is missing is named', async (t) => {
  keepEnvironment(t)
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
    /^vfio-user {2}none: .*10\.1.*fetch-qemu/,
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

t.test('a QEMU for vfio-user devices is chosen by its version', async (t) => {
  keepEnvironment(t)
  process.env.XDG_CACHE_HOME = join(folder, 'cache-qemu')
  const bin = async (name: string, version: string) => {
    await mkdir(join(folder, name))
    const path = join(folder, name, 'qemu-system-x86_64')
    await writeFile(path, `#!/bin/sh\necho 'QEMU emulator version ${version} (Debian 1:${version}+ds-1)'\n`)
    await chmod(path, 0o755)
    return path
  }
  const found = async (qemu: string) => {
    process.env.UACCEL_LAB_QEMU = qemu
    return findLab({ vfioUser: true })
  }
  for (const [version, suits] of [
    ['7.2.22', false],
    ['10.0.8', false],
    ['10.1.0', true],
    ['11.1.2', true],
    ['nonsense', false],
  ] as const) {
    const path = await bin(`qemu-${version}`, version)
    const { qemu, vfioUserQemu, missing } = await found(path)
    t.equal(qemu!.path, path)
    t.match(vfioUserQemu, suits ? { path, version, source: 'UACCEL_LAB_QEMU' } : undefined, version)
    t.equal(missing.filter((line) => /10\.1 or later/.test(line)).length, suits ? 0 : 1)
  }
  const old = await found(join(folder, 'qemu-7.2.22/qemu-system-x86_64'))
  t.throws(() => demandTools({ ...old, canFetch: false }, { vfioUser: true }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /10\.1 or later .*UACCEL_LAB_QEMU/,
  })
  t.notOk(
    (await findLab()).missing.some((line) => /10\.1/.test(line)),
    'not missed where nobody asks for it',
  )

  // A fetched one: nothing but its place counts, and its version is asked through its own loader.
  const root = join(cacheFolder(), 'debian-forky-qemu/usr')
  await mkdir(join(root, 'bin'), { recursive: true })
  await mkdir(join(root, 'lib/x86_64-linux-gnu'), { recursive: true })
  await writeFile(join(root, 'bin/qemu-system-x86_64'), '')
  const loader = join(root, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
  await writeFile(loader, '#!/bin/sh\necho "QEMU emulator version 11.9.0"\n')
  await chmod(loader, 0o755)
  const fetched = await findLab({ vfioUser: true })
  t.match(fetched.vfioUserQemu, { version: '11.9.0', source: 'cache', command: [loader, '--library-path'] })
  t.match(fetched.qemu, { source: 'UACCEL_LAB_QEMU' }, 'other runs keep theirs')
  t.match(describeLab(fetched)[1], /^vfio-user {2}QEMU 11\.9\.0, .*\(cache\)$/)
})

t.test('a QEMU for vfio-user devices that cannot be fetched is missed, and why', async (t) => {
  keepEnvironment(t)
  const bin = join(folder, 'no-network')
  const image = join(folder, 'image')
  await mkdir(bin)
  await writeFile(image, '')
  await symlink((await which('setpriv'))!, join(bin, 'setpriv'))
  await writeFile(join(bin, 'apt-get'), '#!/bin/sh\necho "E: no network" >&2\nexit 100\n')
  await chmod(join(bin, 'apt-get'), 0o755)
  process.env.PATH = bin
  process.env.XDG_CACHE_HOME = join(folder, 'cache-empty')
  delete process.env.UACCEL_LAB_QEMU
  await t.rejects(prepareLab({ vfioUser: true, kernel: image }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /lacks qemu-system-x86_64 of version 10\.1 or later.*fetch-qemu.*E: no network/s,
    cause: { code: 'ERR_ACCEL_SYSTEM' },
  })
  t.strictSame(await readdir(cacheFolder()), [], 'nothing half done')
  await t.rejects(prepareLab({ vfioUser: true, kernel: image, signal: AbortSignal.abort() }), {
    code: 'ERR_ACCEL_ABORTED',
  })
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
