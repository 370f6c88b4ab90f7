import { Accel } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { sys } from '@uaccel/sys'
import { resources } from '@uaccel/testkit'
import { connectVfioUser } from '@uaccel/vfio-user'

/** A whole session with the edu device on the socket that the first argument names; prints what came of it as JSON. */
const accel = new Accel()
accel.register(edu)
await accel.add(await connectVfioUser(process.argv[2]!))
const dev = accel.open(eduUapi, 'accel0')
const version = await dev.call('identify', {})
const { value } = await dev.call('factorial', { n: 12 })
const { data } = await dev.call('echo', { data: Uint8Array.from({ length: 4095 }, (_, i) => i * 7) })
const interrupts = await dev.call('interrupts', {})
const same = data.length === 4095 && data.every((byte, i) => byte === ((i * 7) & 0xff))
await accel.close()
const left = resources().mappings.filter((name) => name.includes('memfd'))
console.log(JSON.stringify({ provider: sys.provider.name, version, value, same, interrupts, left }))
