import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { AccelError } from '@uaccel/uapi'
import t from 'tap'
import {
  abi,
  createSealedMemory,
  Mapping,
  mappingFromAddress,
  type ProviderName,
  requireSealed,
  SystemCalls,
  systemCalls,
  systemError,
  type Window,
} from './index.js'
import { eventually, isMapped, mapsOf, openFds, virtualBytes } from './proc.test.helper.js'

const MIB = 1 << 20
const revoked = { code: 'ERR_ACCEL_REVOKED' }
const arrays = ['u8', 'u16', 'u32', 'i32', 'u64'] as const

function codeOf(call: () => unknown): string {
  try {
    call()
    return 'did not fail'
  } catch (error) {
    if (error instanceof AccelError) return error.code
    throw error
  }
}

/** Runs a module in a worker thread with `data` and answers what it posts. */
function inWorker(body: string, data: unknown): { worker: Worker; next(): Promise<unknown> } {
  const index = JSON.stringify(new URL('./index.js', import.meta.url).href)
  const worker = new Worker(
    new URL(
      `data:text/javascript,${encodeURIComponent(`import { parentPort, workerData } from 'node:worker_threads'
       import { mappingFromAddress, systemCalls } from ${index}
       ${body}`)}`,
    ),
    { workerData: data, execArgv: [] },
  )
  return {
    worker,
    next: () =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
      }),
  }
}

for (const name of ['koffi', 'ffi-rs'] as ProviderName[]) {
  t.test(name, async (t) => {
    const calls = systemCalls(name)
    const file = (sizeBytes: number) => createSealedMemory('uaccel-test', sizeBytes, calls).fd
    calls.eventfd() // the provider is loaded, which opens and maps things of its own
    const before = openFds()

    t.test('what no view can hold is refused before the library sees it', async (t) => {
      const tooLarge = 16 * 1024 ** 3
      const fd = file(tooLarge)
      t.equal(
        codeOf(() => Mapping.map({ fd, offset: 0, sizeBytes: tooLarge }, calls)),
        'ERR_ACCEL_OUT_OF_RANGE',
      )
      t.equal(
        codeOf(() => Mapping.anonymous(tooLarge, {}, calls)),
        'ERR_ACCEL_OUT_OF_RANGE',
      )
      t.equal(
        codeOf(() => mappingFromAddress(0x1000n, tooLarge, calls)),
        'ERR_ACCEL_OUT_OF_RANGE',
      )
      calls.close(fd)
    })

    t.test('a window is taken back also where the kernel refuses the exchange', async (t) => {
      let refuses = false
      class Full extends SystemCalls {
        override mmap(...args: Parameters<SystemCalls['mmap']>): bigint {
          if (refuses) throw systemError('mmap', -12, 'no room')
          return super.mmap(...args)
        }
      }
      const mapping = Mapping.anonymous(4096, {}, new Full(() => calls.provider))
      const part = mapping.slice(8, 8)
      refuses = true
      t.equal(
        codeOf(() => mapping.revoke()),
        'ERR_ACCEL_NO_MEMORY',
      )
      for (const window of [mapping.window, part]) t.throws(() => window.u8[0], revoked)
      refuses = false
      mapping.revoke()
      t.ok(mapping.revoked, 'and can be tried again')
    })

    t.test('memory and file are one', async (t) => {
      const fd = file(8192)
      using mapping = Mapping.map({ fd, offset: 4096, sizeBytes: 4096 }, calls)
      const w = mapping.window
      t.equal(mapping.sizeBytes, 4096)
      t.same(
        arrays.map((array) => w[array].length),
        [4096, 2048, 1024, 1024, 512],
      )
      w.u32[2] = 0x89abcdef
      t.equal(w.u8[8], 0xef)
      t.equal(w.u16[5], 0x89ab)
      t.equal(w.i32[2], 0x89abcdef | 0)
      t.equal(w.u64[1], 0x89abcdefn)
      const bytes = new Uint8Array(4)
      calls.pread(fd, bytes, 4096 + 8)
      t.same(bytes, Uint8Array.of(0xef, 0xcd, 0xab, 0x89))
      calls.pwrite(fd, Uint8Array.of(1), 4096 + 4095)
      t.equal(w.u8[4095], 1)
      calls.close(fd)
      t.equal(w.u8[4095], 1, 'the descriptor is not needed any more')
    })

    t.test('a private mapping keeps its writes', async (t) => {
      const fd = file(4096)
      using mapping = Mapping.map({ fd, offset: 0, sizeBytes: 4096, shared: false }, calls)
      mapping.window.u8[0] = 1
      const byte = new Uint8Array(1)
      calls.pread(fd, byte, 0)
      t.equal(byte[0], 0)
      calls.close(fd)
    })

    t.test('alignment', async (t) => {
      const fd = file(2 * MIB)
      for (let i = 0; i < 4; i++) {
        using mapping = Mapping.map({ fd, offset: 0, sizeBytes: 2 * MIB, alignBytes: 2 * MIB }, calls)
        t.equal(mapping.address % BigInt(2 * MIB), 0n)
        using memory = Mapping.anonymous(4096, { alignBytes: 2 * MIB }, calls)
        t.equal(memory.address % BigInt(2 * MIB), 0n)
        memory.window.u64[511] = 5n
        t.equal(memory.window.u32[1022], 5)
      }
      calls.close(fd)
    })

    t.test('DONTFORK', async (t) => {
      const fd = file(4096)
      const flags = (mapping: Mapping) =>
        readFileSync('/proc/self/smaps', 'utf8')
          .split(`\n${mapping.address.toString(16)}-`)[1]
          .split('VmFlags: ')[1]
          .split('\n')[0]
      using kept = Mapping.map({ fd, offset: 0, sizeBytes: 4096, dontFork: true }, calls)
      t.match(flags(kept), / dc /)
      using inherited = Mapping.map({ fd, offset: 0, sizeBytes: 4096 }, calls)
      t.notMatch(flags(inherited), / dc /)
      calls.close(fd)
    })

    t.test('what cannot be mapped', async (t) => {
      const fd = file(8192)
      const code = (options: object) =>
        codeOf(() => Mapping.map({ fd, offset: 0, sizeBytes: 4096, ...options }, calls))
      for (const sizeBytes of [0, -4096, 100, 4096.5, Number.NaN]) {
        t.equal(code({ sizeBytes }), 'ERR_ACCEL_INVALID_ARGUMENT')
        t.equal(
          codeOf(() => Mapping.anonymous(sizeBytes, {}, calls)),
          'ERR_ACCEL_INVALID_ARGUMENT',
        )
      }
      for (const alignBytes of [0, 100, 3 * 4096]) t.equal(code({ alignBytes }), 'ERR_ACCEL_INVALID_ARGUMENT')
      t.equal(code({ sizeBytes: 12288 }), 'ERR_ACCEL_OUT_OF_RANGE', 'would be SIGBUS')
      t.equal(code({ offset: 8192n }), 'ERR_ACCEL_OUT_OF_RANGE')
      t.equal(code({ offset: 1 }), 'ERR_ACCEL_SYSTEM')
      t.equal(code({ fd: -1 }), 'ERR_ACCEL_SYSTEM')
      const mapped = virtualBytes()
      for (let i = 0; i < 100; i++) code({ sizeBytes: 64 * MIB })
      t.ok(virtualBytes() - mapped < 50 * 64 * MIB, 'a failure leaves nothing reserved')
      calls.close(fd)
    })

    t.test('a window on a part', async (t) => {
      using mapping = Mapping.anonymous(4096, {}, calls)
      const part = mapping.slice(16, 10)
      t.same(
        arrays.map((array) => part[array].length),
        [10, 5, 2, 2, 1],
      )
      part.u32[0] = 7
      t.equal(mapping.window.u32[4], 7)
      t.equal(mapping.slice(4096, 0).u8.length, 0)
      t.equal(
        codeOf(() => mapping.slice(4, 4)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      t.equal(
        codeOf(() => mapping.slice(8, 0.5)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      for (const [offset, size] of [
        [-8, 8],
        [0, -1],
        [4096, 1],
        [0, 4097],
        [2 ** 53 - 8, 8],
      ]) {
        t.match(
          codeOf(() => mapping.slice(offset, size)),
          /OUT_OF_RANGE|INVALID/,
          `${offset} ${size}`,
        )
      }
      part.revoke('a part')
      t.throws(() => part.u8[0], revoked)
      t.equal(mapping.window.u32[4], 7, 'the rest goes on')
    })

    t.test('revoked, every use of every array is an error', async (t) => {
      const fd = file(4096)
      const mapping = Mapping.map({ fd, offset: 0, sizeBytes: 4096, label: 'BAR 0 of the test' }, calls)
      const part = mapping.slice(8, 8)
      const stale = mapping.window.u32
      const byte = new Uint8Array(1)
      stale[0] = 5
      t.equal(mapsOf('uaccel-test').length, 1)
      mapping.revoke()
      t.equal(mapping.revoked, true)
      t.same(mapsOf('uaccel-test'), [], 'the file is released at once')
      for (const window of [mapping.window, part]) {
        t.equal(window.revoked, true)
        for (const array of arrays) {
          const use = window[array] as Window['u32']
          t.throws(() => use[0], revoked)
          t.throws(() => {
            use[0] = 1
          }, revoked)
          t.throws(() => use.length, revoked)
          t.throws(() => use.set([1]), revoked)
          t.throws(() => use.buffer, revoked)
          t.throws(() => [...use], revoked)
          t.throws(() => 0 in use, revoked)
          t.throws(() => Object.keys(use), revoked)
          t.throws(() => new Uint8Array(use), revoked)
        }
      }
      t.throws(() => mapping.window.u8[0], { message: /BAR 0 of the test/ })
      t.equal(
        codeOf(() => mapping.slice(0, 8)),
        'ERR_ACCEL_REVOKED',
      )

      t.equal(stale[0], 0, 'a stale array reaches inert memory')
      stale[0] = 9
      stale.fill(9)
      calls.pread(fd, byte, 0)
      t.equal(byte[0], 5, 'and not the file')
      mapping.revoke()
      calls.close(fd)
    })

    t.test('mapped again after a reset', async (t) => {
      const [first, second] = [file(4096), file(8192)]
      const mapping = Mapping.map({ fd: first, offset: 0, sizeBytes: 4096 }, calls)
      const [part, dropped] = [mapping.slice(8, 8), mapping.slice(16, 8)]
      const { address } = mapping
      mapping.window.u8[8] = 1
      dropped.revoke()
      mapping.revoke()
      calls.pwrite(second, Uint8Array.of(2), 4096 + 8)
      mapping.remap(second, 4096)
      t.equal(mapping.revoked, false)
      t.equal(mapping.address, address)
      t.equal(mapping.window.u8[8], 2)
      t.equal(part.u8[0], 2)
      t.throws(() => dropped.u8[0], revoked, 'revoked by itself: for good')
      mapping.revoke()
      t.throws(() => part.u8[0], revoked)
      t.equal(
        codeOf(() => mapping.remap(second, 8192)),
        'ERR_ACCEL_OUT_OF_RANGE',
      )
      t.equal(mapping.revoked, true)
      t.equal(
        codeOf(() => Mapping.anonymous(4096, {}, calls).remap(first, 0)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      calls.close(first)
      calls.close(second)
    })

    t.test('the range is not reused while a view lives, and is given back then', async (t) => {
      const sizeBytes = 1024 * MIB
      const middle = BigInt(sizeBytes / 2)
      let stale: Uint32Array | undefined
      const hold = () => {
        const mapping = Mapping.anonymous(sizeBytes, {}, calls)
        stale = mapping.window.u32
        mapping.revoke()
        return mapping.address
      }
      const address = hold()
      await eventually(() => false, 200)
      t.ok(isMapped(address + middle), 'kept for the stale array')
      for (let i = 0; i < 20; i++) {
        const other = Mapping.anonymous(sizeBytes, {}, calls)
        t.ok(other.address + BigInt(sizeBytes) <= address || other.address >= address + BigInt(sizeBytes))
        other.revoke()
      }
      stale![5] = 1
      stale = undefined
      t.ok(await eventually(() => !isMapped(address + middle)), 'given back')
    })

    t.test('what nobody looked at is given back at once, and costs no collections', async (t) => {
      const sizeBytes = 1024 * MIB
      const fd = file(4096)
      const mapping = Mapping.map({ fd, offset: 0, sizeBytes: 4096 }, calls)
      const { address } = mapping
      t.ok(isMapped(address))
      mapping.revoke()
      t.notOk(isMapped(address))
      mapping.revoke()
      t.throws(() => mapping.window.u8[0], revoked)
      t.throws(() => mapping.share(), revoked)
      mapping.remap(fd, 0)
      mapping.window.u8[0] = 5
      const byte = new Uint8Array(1)
      calls.pread(fd, byte, 0)
      t.equal(byte[0], 5, 'mapped again, it is the file')
      mapping.revoke()
      t.ok(isMapped(mapping.address), 'and was looked at')
      const shared = Mapping.anonymous(4096, {}, calls)
      const elsewhere = shared.share()
      shared.revoke()
      t.ok(isMapped(shared.address), 'another thread may look')
      elsewhere.release()
      const before = process.memoryUsage().arrayBuffers
      const many = Array.from({ length: 20 }, () => Mapping.anonymous(sizeBytes, {}, calls))
      t.ok(process.memoryUsage().arrayBuffers - before < sizeBytes)
      for (const each of many) each.revoke()
      calls.close(fd)
    })

    t.test('in a worker', async (t) => {
      const fd = file(4096)
      const mapping = Mapping.map({ fd, offset: 0, sizeBytes: 4096 }, calls)
      const { worker, next } = inWorker(
        `const { address, sizeBytes, name } = workerData
         const { u32 } = mappingFromAddress(address, sizeBytes, systemCalls(name))
         u32[1] = u32[0] + 1
         parentPort.postMessage(u32[1])
         parentPort.on('message', () => {
           for (let i = 0; i < u32.length; i++) u32[i] = 77
           parentPort.postMessage(u32[1])
           parentPort.close()
         })`,
        { address: mapping.address, sizeBytes: mapping.share().sizeBytes, name },
      )
      const ended = new Promise((resolve) => worker.once('exit', resolve))
      mapping.window.u32[0] = 41
      t.equal(await next(), 42, 'the same memory')
      t.equal(mapping.window.u32[1], 42)
      mapping.revoke()
      worker.postMessage('go')
      t.equal(await next(), 77, 'it neither faults')
      const word = new Uint8Array(4)
      calls.pread(fd, word, 4)
      t.same(word, Uint8Array.of(42, 0, 0, 0), 'nor reaches the file')
      await ended
      calls.close(fd)
    })

    t.test('shared with another thread, the range is never reused', async (t) => {
      const sizeBytes = 1024 * MIB
      const share = () => {
        const mapping = Mapping.anonymous(sizeBytes, {}, calls)
        mapping.share()
        mapping.revoke()
        return mapping.address
      }
      const address = share()
      await eventually(() => false, 200)
      t.ok(isMapped(address))
      t.ok(isMapped(address + BigInt(sizeBytes - 1)))
      t.equal(mappingFromAddress(address, sizeBytes, calls).u8[0], 0)
      calls.munmap(address, sizeBytes)
    })

    t.test(
      'shared and released, the range is given back once no view of this thread is left either',
      async (t) => {
        const sizeBytes = 1024 * MIB
        const share = () => {
          const mapping = Mapping.anonymous(sizeBytes, {}, calls)
          const [one, two] = [mapping.share(), mapping.share()]
          mapping.revoke()
          one.release()
          one.release()
          return two
        }
        const held = share()
        await eventually(() => false, 200)
        t.ok(isMapped(held.address), 'another thread holds it')
        held.release()
        await eventually(() => !isMapped(held.address))
        t.notOk(isMapped(held.address))
        let collected = false
        const view = () => {
          const memory = Mapping.anonymous(4096, {}, calls)
          mappingFromAddress(memory.address, 4096, calls, () => {
            collected = true
          })
          return memory
        }
        const memory = view()
        await eventually(() => collected)
        t.ok(collected)
        memory.revoke()
      },
    )

    t.test('a part of what can only be mapped from its start', async (t) => {
      const fd = file(4 * 4096)
      const whole = Mapping.map({ fd, offset: 0, sizeBytes: 4 * 4096, label: 'uaccel-test' }, calls)
      for (let page = 0; page < 4; page++) whole.window.u32[page * 1024] = page
      const part = Mapping.map({ fd, offset: 4096, leadBytes: 4096, sizeBytes: 8192 }, calls)
      t.same([part.sizeBytes, part.window.u32[0], part.window.u32[1024]], [8192, 2, 3])
      t.notOk(isMapped(part.address - 4096n), 'what was before it is given back')
      t.equal(
        codeOf(() => Mapping.map({ fd, offset: 8192, leadBytes: 4096, sizeBytes: 8192 }, calls)),
        'ERR_ACCEL_OUT_OF_RANGE',
        'the end of the file is where it was',
      )
      t.equal(
        codeOf(() => Mapping.map({ fd, offset: 0, leadBytes: 100, sizeBytes: 4096 }, calls)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      part.revoke()
      t.equal(
        codeOf(() => part.remap(fd, 4096)),
        'ERR_ACCEL_INVALID_ARGUMENT',
        'its place before is not its own any more',
      )
      whole.revoke()
      calls.close(fd)
    })

    t.test('sealed memory', async (t) => {
      const { fd, sizeBytes } = createSealedMemory('x', 8192, calls)
      t.equal(sizeBytes, 8192)
      requireSealed(fd, 8192, calls)
      t.equal(
        codeOf(() => requireSealed(fd, 8193, calls)),
        'ERR_ACCEL_OUT_OF_RANGE',
      )
      for (const size of [4096, 16384]) {
        t.equal(
          codeOf(() => calls.ftruncate(fd, size)),
          'ERR_ACCEL_PERMISSION',
          'its size is final',
        )
      }
      const loose = calls.memfdCreate('x')
      calls.ftruncate(loose, 8192)
      t.equal(
        codeOf(() => requireSealed(loose, 4096, calls)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      calls.addSeals(loose, abi.F_SEAL_GROW)
      t.equal(
        codeOf(() => requireSealed(loose, 4096, calls)),
        'ERR_ACCEL_INVALID_ARGUMENT',
      )
      calls.addSeals(loose, abi.F_SEAL_SHRINK)
      requireSealed(loose, 4096, calls)
      const event = calls.eventfd()
      t.equal(
        codeOf(() => requireSealed(event, 0, calls)),
        'ERR_ACCEL_INVALID_ARGUMENT',
        'no memory at all',
      )
      t.equal(
        codeOf(() => requireSealed(-1, 0, calls)),
        'ERR_ACCEL_SYSTEM',
      )
      for (const each of [fd, loose, event]) calls.close(each)
    })

    t.test('nothing is left', async (t) => {
      t.equal(openFds(), before)
      t.ok(await eventually(() => mapsOf('uaccel-test').length === 0))
    })
  })
}
