import { parentPort, workerData } from 'node:worker_threads'
import { npuBench } from '@uaccel/driver-npu/contract'
import { irqFailures } from '@uaccel/testkit'
import { connectVfioUser } from '@uaccel/vfio-user'

/** The transport is opened in this thread, and all of it happens here. */
const { type, path } = workerData
parentPort!.postMessage(await irqFailures(type, () => connectVfioUser(path), npuBench))
