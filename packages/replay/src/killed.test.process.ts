import { loopback } from '@uaccel/model'
import { adder, useAdder } from './device.test.support.js'
import { recording } from './recording.js'

/** Records into the file of its argument, and says when it is to be killed in the middle. */
await useAdder(recording(loopback(adder), process.argv[2]!), {
  end: () => {
    process.send!('now')
    return new Promise(() => setInterval(() => {}, 1000))
  },
})
