import { randomBytes } from 'node:crypto'
import { parseBdf } from '@uaccel/core'
import * as block from '@uaccel/example-block'
import * as encrypt from '@uaccel/example-encrypt'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab: what the programs of the examples do, on a disk that holds the folder that the argument names. */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
function bdfOf(wanted: string): string {
  const found = devices.find(({ name }) => name === wanted)
  if (!found) throw new Error(`UACCEL_LAB_DEVICES names no ${wanted}: run this in the lab`)
  return parseBdf(found.bdf)
}
const folder = process.argv[2]
if (folder === undefined) throw new Error('wanted the folder that is on the disk')

t.setTimeout(400_000)

for (const { iommu, skip } of lanes()) {
  t.test(`encrypt by ${iommu}`, { skip }, async (t) => {
    const crypto = await encrypt.openCrypto({ device: bdfOf('crypto'), iommu })
    const secrets = { key: randomBytes(32), iv: randomBytes(16) }
    const { name, parts } = encrypt.randomMessage(1_000_003)
    const sides = await encrypt.compare(crypto, parts, secrets)
    const summary = encrypt.summarise((await crypto.client.query('identity'))!, name, secrets, sides)
    t.comment(JSON.stringify(summary))
    t.match(summary, { mismatches: 0, encrypted: { bytes: 1_000_016 }, decrypted: { bytes: 1_000_003 } })
    t.match(summary.transport, iommu)
    await crypto.close()
  })

  t.test(`block by ${iommu}`, { skip }, async (t) => {
    const nvme = await block.openNvme({ device: bdfOf('disk'), iommu })
    const namespace = await block.NamespaceReader.open(nvme)
    const fs = await block.Ext4.open(namespace)
    const verification = await block.verify(fs, folder)
    const summary = block.summarise((await nvme.client.query('identity'))!, namespace, fs, verification)
    t.comment(JSON.stringify(summary))
    t.match(summary, { fileSystem: 'ext4', mismatches: [] })
    t.match(summary.transport, iommu)
    t.ok(summary.files > 20 && summary.bytes > 3_000_001, `${summary.files} files, ${summary.bytes} bytes`)
    t.ok(summary.mostReadsAtOnce > 8, `${summary.mostReadsAtOnce} reads at once`)
    await nvme.close()
  })
}
