import { parentPort, workerData } from 'node:worker_threads'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import { eduBench, irqFailures } from './index.js'

/** The transport is opened in this thread, and all of it happens here. */
parentPort!.postMessage(await irqFailures(workerData, async () => loopback(eduModel), eduBench))
