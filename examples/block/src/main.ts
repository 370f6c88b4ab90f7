// Reads the files of an ext2, ext3 or ext4 file system through the NVMe driver, and compares them with a folder of this machine.
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type IommuKind, iommuKinds } from '@uaccel/core'
import { nvmeModel } from '@uaccel/driver-nvme/model'
import { createFunction } from '@uaccel/model'
import { accelError, isAccelError } from '@uaccel/uapi'
import { serveVfioUser } from '@uaccel/vfio-user'
import { type NvmeDevice, openNvme, withDisk } from './device.js'
import { Ext4 } from './ext4.js'
import { type ImageType, imageTypes, makeImage, readImage } from './image.js'
import { NamespaceReader } from './namespace.js'
import { formatEntry, formatReport, printable, summarise } from './report.js'
import { verify } from './verify.js'

const usage = `Usage: node examples/block/dist/main.js [OPTIONS] [COMMAND]

Reads an ext2, ext3 or ext4 file system through the NVMe driver.

  verify [DIR]      compares every file with the one in DIR, by SHA-256; without
                    --device and --image, on an image that mke2fs makes of DIR.
                    The command that is taken where none is given, of docs
  ls [PATH]         lists a folder of the file system
  cat PATH          writes a file of it to stdout
  serve SOCKET      makes our model with --image a device for other processes,
                    over vfio-user, until it is interrupted

  --image FILE      disk image for our model of a controller, in this process
  --device DEVICE   PCI address of a controller that is bound to vfio-pci
                    (0000:00:05.0), path of a vfio-user socket (./nvme.sock), or
                    name of a node (accel0)
  --iommu KIND      ${iommuKinds.join(' or ')}, for a PCI device; left out, what there is
  --namespace N     left out, the first that the driver reads
  --type TYPE       of the image that verify makes: ${imageTypes.join(', ')} (default)
  --json            of verify: one JSON object on stdout, and nothing else there
  -h, --help        this text

Exit codes: 0 done, 1 mismatches or an error, 2 wrong usage
`

/** Words that each command takes. */
const commands = { verify: [0, 1], ls: [0, 1], cat: [1, 1], serve: [1, 1] } as const
type CommandName = keyof typeof commands

interface Options {
  readonly command: CommandName
  readonly word: string | undefined
  readonly image: string | undefined
  readonly device: string | undefined
  readonly iommu: IommuKind | undefined
  readonly nsid: number | undefined
  readonly type: ImageType
  readonly json: boolean
  readonly help: boolean
}

function readOptions(): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        image: { type: 'string' },
        device: { type: 'string' },
        iommu: { type: 'string' },
        namespace: { type: 'string' },
        type: { type: 'string', default: 'ext4' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    const { image, device, json, help } = values
    const [command = 'verify', ...words] = positionals
    if (!Object.hasOwn(commands, command))
      throw new Error(`there are the commands ${Object.keys(commands).join(', ')}, found ${command}`)
    const name = command as CommandName
    const [least, most] = commands[name]
    if (words.length < least || words.length > most)
      throw new Error(
        `${name} wants ${least === most ? 'one word' : 'one word at most'}, found ${words.length}`,
      )
    if (image !== undefined && device !== undefined)
      throw new Error('--image is for our model: leave it out with --device')
    if (name === 'serve' ? image === undefined : name !== 'verify' && (image ?? device) === undefined)
      throw new Error(`${name} wants ${name === 'serve' ? '--image' : '--image or --device'}`)
    if (json && name !== 'verify') throw new Error('--json is for verify')
    const iommu = iommuKinds.find((kind) => kind === values.iommu)
    if (iommu !== values.iommu)
      throw new Error(`--iommu wants ${iommuKinds.join(' or ')}, found ${values.iommu}`)
    const type = imageTypes.find((each) => each === values.type)
    if (type === undefined) throw new Error(`--type wants ${imageTypes.join(', ')}, found ${values.type}`)
    const nsid = values.namespace === undefined ? undefined : Number(values.namespace)
    if (nsid !== undefined && !(Number.isInteger(nsid) && nsid >= 1 && nsid < 2 ** 32))
      throw new Error(`--namespace wants a number from 1 on, found ${values.namespace}`)
    return { command: name, word: words[0], image, device, iommu, nsid, type, json, help }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

async function run(options: Options): Promise<void> {
  const { command, word, image, device, iommu, nsid, type } = options
  const folder = word ?? fileURLToPath(new URL('../../../docs', import.meta.url))
  const disk =
    image !== undefined
      ? readImage(image)
      : device === undefined
        ? await makeImage(folder, { type })
        : undefined
  if (command === 'serve') return serve(word!, disk!)
  const nvme = await openNvme({ device, disk, iommu })
  try {
    const namespace = await NamespaceReader.open(nvme, { nsid })
    const fs = await Ext4.open(namespace)
    if (command === 'ls') await list(fs, word ?? '/')
    else if (command === 'cat') await print(fs, word!)
    else await compare(nvme, namespace, fs, folder, options)
  } finally {
    await nvme.close()
  }
}

async function compare(
  { client }: NvmeDevice,
  namespace: NamespaceReader,
  fs: Ext4,
  folder: string,
  { json }: Options,
): Promise<void> {
  const verification = await verify(fs, folder)
  const identity = await client.query('identity')
  const summary = summarise(identity!, namespace, fs, verification)
  process.stdout.write(json ? `${JSON.stringify(summary)}\n` : formatReport(summary))
  if (summary.mismatches.length > 0) process.exitCode = 1
}

async function list(fs: Ext4, path: string): Promise<void> {
  const inode = await fs.lookup(path)
  const entries = inode.type === 'directory' ? await fs.entries(inode) : [{ name: path, inode: inode.number }]
  entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const { name, inode: number } of entries) {
    const entry = await fs.inode(number)
    const target = entry.type === 'link' ? await fs.target(entry) : undefined
    process.stdout.write(`${formatEntry(name, entry, target)}\n`)
  }
}

async function print(fs: Ext4, path: string): Promise<void> {
  const inode = await fs.lookup(path)
  if (inode.type !== 'file')
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is a ${inode.type}, wanted a file`)
  await pipeline(Readable.from(fs.read(inode), { objectMode: false }), process.stdout, { end: false })
}

function serve(socket: string, disk: Uint8Array): void {
  const server = serveVfioUser({
    path: socket,
    device: createFunction(nvmeModel, withDisk(disk), { strict: false }),
  })
  process.stderr.write(`an NVMe controller on ${socket}\n`)
  const stop = () => {
    server.close()
    if (process.connected) process.disconnect()
  }
  process.once('SIGINT', stop).once('SIGTERM', stop).once('disconnect', stop)
  // Started by another program of Node: it is told when the socket is there, and its end is this one's.
  process.send?.('ready')
}

// Who reads the output may have seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
const options = readOptions()
if (options?.help) process.stdout.write(usage)
else if (options) {
  try {
    await run(options)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') {
      // What was wanted, found and to be done is in the message; the trace of a bug in it helps too.
      const text = isAccelError(error) ? `${error.code}: ${error.message}` : `${(error as Error).stack}`
      process.stderr.write(`${text.split('\n').map(printable).join('\n')}\n`)
      process.exitCode = 1
    }
  }
}
