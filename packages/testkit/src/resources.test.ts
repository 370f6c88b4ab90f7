import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { createSealedMemory, Mapping, sys } from '@uaccel/sys'
import t from 'tap'
import { leaks, resources } from './index.js'

t.test('a descriptor that was left is found', async (t) => {
  const before = resources()
  t.same(leaks(before, resources()), [])
  const fd = openSync('/dev/null', 'r')
  t.same(leaks(before, resources()), ['descriptor of /dev/null'])
  closeSync(fd)
  t.same(leaks(before, resources()), [])
})

t.test('one of several alike is found', async (t) => {
  const fds = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')]
  const before = resources()
  fds.push(openSync('/dev/null', 'r'))
  t.same(leaks(before, resources()), ['descriptor of /dev/null'])
  fds.forEach(closeSync)
})

t.test('sockets are told apart by number, not by name', async (t) => {
  const listen = async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, resolve))
    return server
  }
  const first = await listen()
  const before = resources()
  const second = await listen()
  first.close()
  t.same(leaks(before, resources()), [])
  const third = await listen()
  t.same(leaks(before, resources()), ['descriptor of socket'])
  second.close()
  third.close()
})

t.test('a mapping that was left is found, one that was revoked is not', async (t) => {
  const before = resources()
  const { fd } = createSealedMemory('leak', 8192)
  const mapping = Mapping.map({ fd, offset: 0, sizeBytes: 8192 })
  sys.close(fd)
  t.match(leaks(before, resources()), [/^mapping of \/memfd:leak/])
  mapping.revoke()
  t.same(leaks(before, resources()), [])
})
