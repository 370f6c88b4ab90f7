import { execFile, fork } from 'node:child_process'
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { DeviceCipher } from './cbc.js'
import { compare, countDifferences } from './compare.js'
import { type CryptoDevice, openCrypto } from './device.js'
import { formatReport, summarise } from './report.js'

// Programs are started, on machines that may be slow.
t.setTimeout(600_000)

const here = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const main = here('dist/main.js')
const key = Buffer.from('000102030405060708090a0b0c0d0e0f1011121314151617', 'hex')
const iv = Buffer.alloc(16, 7)

async function* inParts(message: Uint8Array, partBytes: number) {
  for (let at = 0; at < message.length; at += partBytes) yield message.subarray(at, at + partBytes)
}

async function model(t: Test): Promise<CryptoDevice> {
  const device = await openCrypto()
  t.teardown(() => device.close())
  return device
}

async function crypt(
  device: CryptoDevice,
  direction: 'encrypt' | 'decrypt',
  parts: AsyncIterable<Uint8Array>,
  options: { readonly key: Uint8Array; readonly iv: Uint8Array; readonly operationBytes?: number },
): Promise<Buffer> {
  const cipher = await DeviceCipher.open(device, { direction, ...options })
  const results: Uint8Array[] = []
  for await (const part of parts) results.push(await cipher.update(part))
  results.push(await cipher.final())
  await cipher.close()
  return Buffer.concat(results)
}

/** A folder whose name is short, which sockets want. */
function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'uaccel-test-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** The command `uaccel` in the background, until the test ends. */
function uaccel(t: Test, args: readonly string[]) {
  const command = here('../../packages/cli/bin/uaccel.mjs')
  const child = fork(command, args, { stdio: ['ignore', 'ignore', 2, 'ipc'] })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
  })
  return child
}

async function serveModel(t: Test, name: string, socket: string): Promise<void> {
  await once(uaccel(t, ['model', name, '--socket', socket, '--quiet']), 'message')
}

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) =>
    execFile(
      process.execPath,
      [main, ...args],
      { env: { ...process.env, ...env } },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    ),
  )
}

t.test('messages of any length, in parts of any length, through operations of any length', async (t) => {
  const device = await model(t)
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 700 }),
      fc.constantFrom(16, 24, 32),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 12 }),
      async (message, keyBytes, partBytes, operationBlocks) => {
        const options = {
          key: randomBytes(keyBytes),
          iv: randomBytes(16),
          operationBytes: 16 * operationBlocks,
        }
        const node = createCipheriv(`aes-${8 * keyBytes}-cbc`, options.key, options.iv)
        const wanted = Buffer.concat([node.update(message), node.final()])
        const text = await crypt(device, 'encrypt', inParts(message, partBytes), options)
        if (!wanted.equals(text)) throw new Error('encryption differs')
        const back = await crypt(device, 'decrypt', inParts(text, partBytes), options)
        if (!back.equals(message)) throw new Error('decryption differs')
      },
    ),
    { numRuns: 60 },
  )
})

t.test('what decryption refuses, and what the device does', async (t) => {
  const device = await model(t)
  const options = { key, iv }
  const text = await crypt(device, 'encrypt', inParts(Buffer.alloc(100, 1), 100), options)
  for (const length of [0, 1, 15, 17, text.length - 1]) {
    await t.rejects(
      crypt(device, 'decrypt', inParts(text.subarray(0, length), 64), options),
      { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /whole blocks of 16 bytes/ },
      `${length} bytes`,
    )
  }
  const notPadded = createCipheriv('aes-192-cbc', key, iv).setAutoPadding(false)
  const wrong = Buffer.concat([notPadded.update(Buffer.alloc(32, 0xee)), notPadded.final()])
  await t.rejects(crypt(device, 'decrypt', inParts(wrong, 64), options), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
  for (const length of [0, 15, 33]) {
    const open = DeviceCipher.open(device, { direction: 'encrypt', key: new Uint8Array(length), iv })
    await t.rejects(open, { code: 'ERR_ACCEL_OUT_OF_RANGE' }, `a key of ${length} bytes`)
  }
  const shortIv = crypt(device, 'encrypt', inParts(text, 64), { key, iv: new Uint8Array(12) })
  await t.rejects(shortIv, { code: 'ERR_ACCEL_OUT_OF_RANGE' }, 'a short initialization vector')
})

t.test('sessions and buffers are given back', async (t) => {
  const device = await model(t)
  for (let i = 0; i < 100; i++) await compare(device, inParts(Buffer.alloc(i), 10), { key, iv })
  t.equal((await device.client.common('attrShow', { path: 'sessions/inUse' })).value, '0')
})

t.test('a device that makes other cipher text is found out', async (t) => {
  const device = await model(t)
  const otherKey = Buffer.alloc(24, 9)
  const call: CryptoDevice['client']['call'] = (name, input, options) =>
    device.client.call(name, name === 'createCipherSession' ? { ...input, key: otherKey } : input, options)
  const liar = { ...device, client: { call } as CryptoDevice['client'] }
  const { encrypted, decrypted } = await compare(liar, inParts(randomBytes(1000), 333), { key, iv })
  t.equal(encrypted.bytes, 1008)
  t.ok(encrypted.mismatches > 900, `${encrypted.mismatches} bytes differ`)
  t.match(decrypted, { bytes: 1000, mismatches: 0 })
  t.equal(countDifferences(Uint8Array.of(1, 2, 3), Uint8Array.of(1, 9)), 2)
})

t.test('the report fits a terminal', async (t) => {
  const side = { bytes: 123_456_789_012, deviceSeconds: 1, nodeSeconds: 0.1, mismatches: 123_456 }
  const identity = {
    name: 'virtio-crypto',
    node: 'accel0',
    emulated: 'yes',
    transport: 'vfio',
    iommu: 'iommufd',
  } as const
  const summary = summarise(identity, 'name', { key, iv }, { encrypted: side, decrypted: side })
  t.equal(summary.mismatches, 246_912)
  const lines = formatReport(summary).split('\n')
  t.same(
    lines.filter((line) => line.length > 80),
    [],
  )
  t.match(lines[1], 'vfio, iommufd')
})

t.test('the program, on its model', async (t) => {
  const path = folder(t)
  const [plain, cipherText] = [join(path, 'plain'), join(path, 'text')]
  const message = randomBytes(1_234_567)
  writeFileSync(plain, message)
  const keyed = ['--key', key.toString('hex'), '--iv', iv.toString('hex')]
  const { code, stdout, stderr } = await run([plain, ...keyed, '--output', cipherText, '--json'])
  t.equal(stderr, '')
  t.equal(code, 0)
  t.equal(stdout.indexOf('\n'), stdout.length - 1, 'one line')
  t.match(JSON.parse(stdout), {
    device: 'virtio-crypto, emulated (accel0)',
    transport: 'loopback',
    message: plain,
    cipher: 'AES-192-CBC',
    iv: iv.toString('hex'),
    encrypted: { bytes: 1_234_576, mismatches: 0 },
    decrypted: { bytes: 1_234_567, mismatches: 0 },
    mismatches: 0,
  })
  const node = createDecipheriv('aes-192-cbc', key, iv)
  const back = Buffer.concat([node.update(readFileSync(cipherText)), node.final()])
  t.ok(back.equals(message), '--output holds what others can decrypt')
  t.same(readdirSync(path).sort(), ['plain', 'text'])
  const printed = await run(['--size', '0.01'])
  t.match(printed.stdout, /encrypted .* 10,496 /)
  for (const help of ['--help', '-h']) t.match((await run([help])).stdout, /^Usage/)
})

t.test('what is wrong is said in a sentence, with an exit code', async (t) => {
  const path = folder(t)
  const keyed = ['--key', key.toString('hex')]
  const output = join(path, 'text')
  const inner = join(path, 'folder')
  mkdirSync(inner)
  const cases = [
    [['--wrong'], 2, /^Unknown option '--wrong'/],
    [['a', 'b'], 2, /^one FILE is wanted, found a b/],
    [['--key', '0011'], 2, /^--key wants 16, 24 or 32 bytes in hexadecimal, found 2\n/],
    [['--key', 'secret'], 2, /^--key wants 16, 24 or 32 bytes in hexadecimal, found something else\n/],
    [['--iv', '00'.repeat(15)], 2, /^--iv wants 16 bytes in hexadecimal, found 15\n/],
    [['--iommu', 'none'], 2, /^--iommu wants type1 or iommufd, found none/],
    [['--size', '1e9'], 2, /^--size wants a number of MiB/],
    [['--output', output], 2, /^--output wants --key/],
    [[join(path, 'none')], 1, /^ERR_ACCEL_NOT_FOUND: There is no file or folder .*none\n$/],
    [[path], 1, /^ERR_ACCEL_INVALID_ARGUMENT: .* is a folder; a file is wanted\n$/],
    [
      [...keyed, '--output', join(path, 'a/b')],
      1,
      /^ERR_ACCEL_NOT_FOUND: There is no file or folder .*a\/b\n$/,
    ],
    [
      [...keyed, '--size', '0.1', '--output', inner],
      1,
      /^ERR_ACCEL_INVALID_ARGUMENT: .*folder is a folder; a file is wanted\n$/,
    ],
    [['--device', join(path, 'no.sock')], 1, /^ERR_ACCEL_NOT_FOUND: .*no\.sock/],
    [['--device', 'accel99'], 1, /^ERR_ACCEL_NOT_FOUND: .*accel99/],
    [['--device', 'a:b'], 1, /^ERR_ACCEL_INVALID_ARGUMENT: "a:b" is not a PCI address/],
  ] as const
  const all = await Promise.all(cases.map(([args]) => run(args)))
  for (const [i, [args, code, said]] of cases.entries()) {
    const ended = all[i]
    t.equal(ended.code, code, args.join(' '))
    t.match(ended.stderr, said)
    t.equal(ended.stdout, '')
  }
  const edu = join(path, 'edu.sock')
  await serveModel(t, 'edu', edu)
  const wrong = await run(['--device', edu, ...keyed, '--output', output])
  t.equal(wrong.code, 1)
  t.match(wrong.stderr, /^ERR_ACCEL_NO_DRIVER: .*edu\.sock is no virtio-crypto device\./)
  t.same(readdirSync(path).sort(), ['edu.sock', 'folder'], 'nothing half done')
})

t.test('the program over vfio-user, and on a node', async (t) => {
  const path = folder(t)
  const socket = join(path, 'crypto.sock')
  await serveModel(t, 'virtio-crypto', socket)
  const overSocket = await run(['--device', socket, '--size', '3', '--json'])
  t.equal(overSocket.stderr, '')
  t.match(JSON.parse(overSocket.stdout), {
    transport: 'vfio-user',
    mismatches: 0,
    decrypted: { bytes: 3 << 20 },
  })

  const nodes = join(path, 'uaccel')
  uaccel(t, ['serve', '--model', 'virtio-crypto', '--folder', nodes])
  for (const end = Date.now() + 60_000; !existsSync(join(nodes, 'accel0')) && Date.now() < end; )
    await sleep(50)
  const onNode = await run(['--device', 'accel0', '--size', '1', '--json'], { XDG_RUNTIME_DIR: path })
  t.equal(onNode.stderr, '')
  t.match(JSON.parse(onNode.stdout), { device: /accel0/, mismatches: 0, decrypted: { bytes: 1 << 20 } })
})
