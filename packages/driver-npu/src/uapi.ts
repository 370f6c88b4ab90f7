import { bool, cmd, doc, string, u32, u64, uapi } from '@uaccel/uapi'

/** Commands of the NPU driver. Contexts, buffers and jobs are an API of the driver's process: see `Npu`. */
export const npuUapi = uapi({
  name: 'npu',
  version: 1,
  commands: {
    identify: cmd(0x40, {
      doc: 'What the device can do; the fields are those of its capability registers.',
      out: {
        version: doc('Version of the specification: major.minor.patch.', string(16)),
        queues: doc('Queues of the device.', u32),
        windows: doc('Windows of each queue.', u32),
        minRingEntries: doc('Entries of the smallest ring.', u32),
        maxRingEntries: doc('Entries of the largest ring.', u32),
        maxDimension: doc('The largest dimension, kernel size, stride, dilation and pad.', u32),
        maxElements: doc('Elements that one tensor may have at most.', u64),
        maxMacs: doc('Multiply-accumulates that one descriptor may take at most.', u64),
        opcodes: doc('Bit n is set where the device has opcode n.', u64),
        dataTypes: doc('Bit n is set where the device has data type n.', u32),
        clockKhz: doc('Rate of the cycles that are counted.', u32),
        cardBytes: doc('Memory on the card.', u64),
        readyTimeoutMs: doc('The longest time that the controller takes to start or to stop.', u32),
      },
      concurrent: true,
    }),
    counters: cmd(0x41, {
      doc: 'The performance counters as of one moment; `clear` sets them to 0 after they were read.',
      in: { clear: doc('Whether to start again from 0.', bool) },
      out: {
        cyclesBusy: doc('Cycles in which at least one descriptor was being executed.', u64),
        descriptors: doc('Completions posted.', u64),
        errors: doc('Of these, with a status other than success.', u64),
        bytesRead: doc('Bytes of tensors, tables and parameter blocks read.', u64),
        bytesWritten: doc('Bytes of tensors written.', u64),
        macs: doc('Multiply-accumulates done.', u64),
      },
    }),
    reset: cmd(0x42, {
      doc: 'Resets the controller. Jobs under way end with an error; contexts and their memory stay.',
    }),
  },
})
