import { createSealedMemory, Mapping, sys } from '@uaccel/sys'
import type { Handle } from '@uaccel/uapi'
import t from 'tap'
import { openQueue, type QueueOpener } from './client-queue.js'

const PAGE_BYTES = 4096
const part = { offset: 0n, sizeBytes: BigInt(PAGE_BYTES) }

/** A device in name only: queues of it are memory. */
function bench() {
  const { fd } = createSealedMemory('doorbell', PAGE_BYTES)
  const page = Mapping.map({ fd, offset: 0, sizeBytes: PAGE_BYTES })
  const asked: string[] = []
  let destroyed = () => {}
  const common = async (command: string) => {
    asked.push(command)
    if (command === 'queueDestroy') {
      await new Promise<void>((resolve) => {
        destroyed = resolve
      })
      return {}
    }
    return {
      handle: 1 as Handle<'queue'>,
      payload: new Uint8Array(),
      rings: createSealedMemory('rings', PAGE_BYTES).fd,
      ringsPart: part,
      doorbell: sys.dup(fd),
      doorbellPart: part,
      kick: sys.eventfd(0),
    }
  }
  const opener = { common, lost: new Promise(() => {}) } as unknown as QueueOpener
  const end = () => {
    page.revoke()
    sys.close(fd)
  }
  return { opener, asked, doorbell: page.window.i32, destroy: () => destroyed(), end }
}

t.test(
  'a queue that is being closed rings no doorbell: its page may be another’s before that is known here',
  async (t) => {
    const { opener, asked, doorbell, destroy, end } = bench()
    const queue = await openQueue(opener, { entries: 16, buffers: [] })
    queue.doorbell.write32(4, 5)
    t.equal(doorbell[1], 5)
    const closing = queue.close()
    queue.doorbell.write32(4, 6)
    t.equal(doorbell[1], 5)
    t.strictSame(asked, ['queueCreate', 'queueDestroy'])
    destroy()
    await closing
    t.equal(queue.rings.u8[0], 0, 'its rings can be read until they are unmapped')
    queue.unmap()
    t.throws(() => queue.rings.u8, { code: 'ERR_ACCEL_REVOKED' })
    end()
  },
)
