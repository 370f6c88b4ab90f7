// Encrypts a file on a crypto device, decrypts it again, and compares every byte with node:crypto's.
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { type IommuKind, iommuKinds } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { BLOCK_BYTES, KEY_BYTES } from './cbc.js'
import { compare } from './compare.js'
import { openCrypto } from './device.js'
import { createFile, fileMessage, randomMessage } from './files.js'
import { formatReport, summarise } from './report.js'

const oneOf = (numbers: readonly number[]) => numbers.join(', ').replace(/, (\d+)$/, ' or $1')

const usage = `Usage: node examples/encrypt/dist/main.js [OPTIONS] [FILE]

Encrypts FILE, or random bytes, with AES-CBC on a virtio-crypto device, decrypts
it again, and compares every byte with node:crypto's.

  --device DEVICE  PCI address of a device that is bound to vfio-pci
                   (0000:00:05.0), path of a vfio-user socket (./crypto.sock),
                   or name of a node (accel0); left out, a model in this process
  --iommu KIND     ${iommuKinds.join(' or ')}, for a PCI device; left out, what there is
  --key HEX        ${oneOf(KEY_BYTES)} bytes in hexadecimal; left out, 32 random ones
  --iv HEX         initialization vector, ${BLOCK_BYTES} bytes; left out, random ones
  --output FILE    writes the encrypted message there; wants --key
  --size MIB       how many random bytes; 16 unless told
  --json           one JSON object on stdout, and nothing else there
  -h, --help       this text

Exit codes: 0 all bytes equal, 1 mismatches or an error, 2 wrong usage
`

interface Options {
  readonly file: string | undefined
  readonly device: string | undefined
  readonly iommu: IommuKind | undefined
  readonly key: Uint8Array
  readonly iv: Uint8Array
  readonly output: string | undefined
  readonly sizeBytes: number
  readonly json: boolean
  readonly help: boolean
}

function readOptions(): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        device: { type: 'string' },
        iommu: { type: 'string' },
        key: { type: 'string' },
        iv: { type: 'string' },
        output: { type: 'string' },
        size: { type: 'string', default: '16' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    const { device, output, size, json, help } = values
    if (positionals.length > 1) throw new Error(`one FILE is wanted, found ${positionals.join(' ')}`)
    const iommu = iommuKinds.find((kind) => kind === values.iommu)
    if (iommu !== values.iommu)
      throw new Error(`--iommu wants ${iommuKinds.join(' or ')}, found ${values.iommu}`)
    if (!/^\d+(\.\d+)?$/.test(size)) throw new Error(`--size wants a number of MiB, found ${size}`)
    if (output !== undefined && values.key === undefined)
      throw new Error('--output wants --key: nobody could decrypt it')
    return {
      ...{ file: positionals[0], device, iommu, output, json, help },
      sizeBytes: Math.round(Number(size) * 2 ** 20),
      key: values.key === undefined ? randomBytes(32) : readHex('--key', values.key, KEY_BYTES),
      iv: values.iv === undefined ? randomBytes(BLOCK_BYTES) : readHex('--iv', values.iv, [BLOCK_BYTES]),
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

/** Bytes in hexadecimal. What is wrong with a key is said without its digits. */
function readHex(option: string, text: string, lengths: readonly number[]): Uint8Array {
  const wanted = `${option} wants ${oneOf(lengths)} bytes in hexadecimal`
  if (!/^([\da-f]{2})*$/i.test(text)) throw new Error(`${wanted}, found something else`)
  if (!lengths.includes(text.length / 2)) throw new Error(`${wanted}, found ${text.length / 2}`)
  return Buffer.from(text, 'hex')
}

async function run({ file, device, iommu, key, iv, output, sizeBytes, json }: Options): Promise<void> {
  const message = file === undefined ? randomMessage(sizeBytes) : await fileMessage(file)
  const result = output === undefined ? undefined : await createFile(output)
  const crypto = await openCrypto({ device, iommu }).catch(async (error) => {
    await result?.discard()
    throw error
  })
  try {
    const sides = await compare(crypto, message.parts, { key, iv }, (text) => result?.write(text))
    await result?.keep()
    const identity = await crypto.client.query('identity')
    const summary = summarise(identity!, message.name, { key, iv }, sides)
    process.stdout.write(json ? `${JSON.stringify(summary)}\n` : formatReport(summary))
    if (summary.mismatches > 0) process.exitCode = 1
  } finally {
    await result?.discard()
    await crypto.close()
  }
}

const options = readOptions()
if (options?.help) process.stdout.write(usage)
else if (options) {
  try {
    await run(options)
  } catch (error) {
    // What was wanted, found and to be done is in the message; the trace of a bug in it helps too.
    process.stderr.write(
      `${isAccelError(error) ? `${error.code}: ${error.message}` : (error as Error).stack}\n`,
    )
    process.exitCode = 1
  }
}
