// Writes records into the ring that the first argument names, as fast as it can, until it is killed. Record n is a write of n at offset n.
import { TraceRing } from './ring.js'

const ring = TraceRing.create(process.argv[2], { records: Number(process.argv[3]) })
ring.name({ device: 'a device', driver: 'test' })
process.send?.('ready')
let n = 0
const burst = () => {
  for (let i = 0; i < 10_000; i++) {
    ring.write(0, n, 4, n)
    n++
  }
  setImmediate(burst)
}
burst()
