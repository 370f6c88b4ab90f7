import { accelDriver } from '@uaccel/accel'
import { sys } from '@uaccel/sys'
import { accelError, bytes, cmd, enumeration, fd, flags, range, u8, u32, uapi } from '@uaccel/uapi'

/** Bytes of the largest answer. */
export const FILL_BYTES = 1 << 16

/** Commands that put a client to the test; the device is not touched. */
export const contractUapi = uapi({
  name: 'contract',
  version: 1,
  commands: {
    add: cmd(0x40, { in: { a: u32, b: u32 }, out: { sum: u32 }, concurrent: true }),
    hang: cmd(0x41, { doc: 'Runs until it is withdrawn.', concurrent: true }),
    fail: cmd(0x42, {
      in: { how: enumeration({ detailed: 0, bug: 1, long: 2 }), size: range(u32, 0, 100_000) },
      concurrent: true,
    }),
    swap: cmd(0x43, {
      doc: 'Answers a new file with the bytes of the given one in reverse.',
      in: { file: fd },
      out: { file: fd, sizeBytes: u32 },
      concurrent: true,
    }),
    keep: cmd(0x44, { doc: 'Holds something until the open is closed.', in: { count: range(u32, 0, 100) } }),
    state: cmd(0x45, {
      doc: 'What all opens hold, and how many commands were withdrawn for which reason.',
      out: { kept: u32, hanging: u32, aborted: u32, timedOut: u32, closed: u32, pid: u32, uid: u32 },
      concurrent: true,
    }),
    fill: cmd(0x46, {
      in: { sizeBytes: range(u32, 0, FILL_BYTES) },
      out: { data: bytes(FILL_BYTES) },
      concurrent: true,
    }),
    files: cmd(0x47, {
      doc: 'Answers as many new files as it can: two.',
      in: { first: fd, second: fd },
      out: { first: fd, second: fd },
      concurrent: true,
    }),
    late: cmd(0x48, {
      doc: 'Waits until it is withdrawn, and 20 ms more; then it looks at its file, and answers another one.',
      in: { file: fd },
      out: { file: fd },
      concurrent: true,
    }),
    padded: cmd(0x49, { in: { small: u8, how: flags({ known: 0 }) }, concurrent: true }),
  },
})

/** What went wrong where no caller could be told: a descriptor that was closed under a handler. */
export const contractFailures: unknown[] = []

/** Takes any device with the ids of edu. */
export const contractDriver = accelDriver({
  name: 'contract',
  uapi: contractUapi,
  ids: [{ bus: 'pci', vendor: 0x1234, device: 0x11e8 }],
  probe() {
    const state = { kept: 0, hanging: 0, aborted: 0, timedOut: 0, closed: 0 }
    const withdrawn = (signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    return {
      commands: {
        add: ({ a, b }) => ({ sum: (a + b) >>> 0 }),
        async hang(_request, { signal }) {
          state.hanging++
          await withdrawn(signal)
          state.hanging--
          const { code } = signal.reason as { code: string }
          if (code === 'ERR_ACCEL_ABORTED') state.aborted++
          if (code === 'ERR_ACCEL_TIMEOUT') state.timedOut++
          if (code === 'ERR_ACCEL_CLOSED') state.closed++
          return {}
        },
        fail({ how, size }) {
          if (how === 'bug') throw new TypeError('a bug of the driver')
          const message = how === 'long' ? 'ä'.repeat(size) : 'what the driver says'
          throw accelError('ERR_ACCEL_MAPPING_LIMIT', message, {
            errno: 'ENOSPC',
            syscall: 'ioctl',
            details: how === 'long' ? { text: 'x'.repeat(size) } : { limit: size, large: 1n << 60n },
          })
        },
        swap({ file }) {
          if (file === null) return { file: null, sizeBytes: 0 }
          const { sizeBytes } = sys.fstat(file)
          const data = new Uint8Array(sizeBytes)
          sys.pread(file, data, 0)
          const answer = sys.memfdCreate('uaccel-contract')
          sys.pwrite(answer, data.reverse(), 0)
          return { file: answer, sizeBytes }
        },
        keep({ count }, { open }) {
          for (let i = 0; i < count; i++) {
            const file = sys.memfdCreate('uaccel-contract-kept')
            state.kept++
            open.defer(async () => {
              await new Promise((resolve) => setTimeout(resolve, 1))
              sys.close(file)
              state.kept--
            })
          }
          return {}
        },
        state: (_request, { open }) => ({ ...state, pid: open.peer?.pid ?? 0, uid: open.peer?.uid ?? 0 }),
        fill: ({ sizeBytes }) => ({ data: new Uint8Array(sizeBytes).fill(0xa5) }),
        files: () => ({ first: sys.memfdCreate('uaccel-first'), second: sys.memfdCreate('uaccel-second') }),
        padded: () => ({}),
        async late({ file }, { signal }) {
          await withdrawn(signal)
          await new Promise((resolve) => setTimeout(resolve, 20))
          try {
            if (file !== null) sys.fstat(file)
          } catch (error) {
            contractFailures.push(error)
          }
          return { file: sys.memfdCreate('uaccel-late') }
        },
      },
    }
  },
})
