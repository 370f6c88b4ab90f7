// The controller counts doorbells, in a process of its own: commands that are submitted together make one.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CommandListener, statusName } from '@uaccel/driver-nvme'
import { withNvme } from '@uaccel/driver-nvme/contract'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'

const COMMANDS = 32
const BLOCK_BYTES = 512

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
const path = join(folder, 'nvme.sock')
const controller = fork(fileURLToPath(new URL('nvme-doorbells.process.js', import.meta.url)), [path])
await once(controller, 'message')
t.teardown(() => {
  controller.disconnect()
  rmSync(folder, { recursive: true, force: true })
})

async function doorbells(): Promise<number> {
  const answer = once(controller, 'message')
  controller.send('doorbells')
  return (await answer)[0]
}

for (const irq of ['msix', 'poll'] as const) {
  t.test(`${COMMANDS} commands submitted together are one doorbell over vfio-user, ${irq}`, async (t) => {
    await withNvme(
      () => connectVfioUser(path),
      async ({ nvme }) => {
        const data = nvme.allocate(COMMANDS * BLOCK_BYTES)
        const [queue] = nvme.queues
        /** Reads blocks, so many for a doorbell. Answers how many doorbells the controller saw. */
        const read = async (perDoorbell: number) => {
          const before = await doorbells()
          await new Promise<void>((resolve, reject) => {
            let left = COMMANDS
            const listener: CommandListener = {
              completed(_, status) {
                if (status !== 0) reject(new Error(statusName(status)))
                else if (--left === 0) resolve()
              },
              failed: (_, error) => reject(error),
            }
            for (let i = 0; i < COMMANDS; i++) {
              const low = (data.iovaLow + i * BLOCK_BYTES) | 0
              queue!.submit(2, 1, low, data.iovaHigh, BLOCK_BYTES, i, 0, 0, listener)
              if ((i + 1) % perDoorbell === 0) nvme.kick(queue!)
            }
          })
          return (await doorbells()) - before
        }
        t.equal(await read(1), COMMANDS)
        t.equal(await read(8), 4)
        t.equal(await read(COMMANDS), 1)
        data.free()
      },
      { irq, shadowDoorbells: false }, // with those a controller that works is not rung at all
    )
  })
}
