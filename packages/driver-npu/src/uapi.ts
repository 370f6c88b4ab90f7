import { bool, cmd, string, u32, u64, uapi } from '@uaccel/uapi'

/** Commands of the NPU driver. Contexts, buffers and jobs are an API of the driver's process: see `Npu`. */
export const npuUapi = uapi({
  name: 'npu',
  version: 1,
  commands: {
    identify: cmd(0x40, {
      doc: 'What the device can do; the fields are those of its capability registers.',
      out: {
        version: string(16),
        queues: u32,
        windows: u32,
        minRingEntries: u32,
        maxRingEntries: u32,
        maxDimension: u32,
        maxElements: u64,
        maxMacs: u64,
        opcodes: u64,
        dataTypes: u32,
        clockKhz: u32,
        cardBytes: u64,
        readyTimeoutMs: u32,
      },
      concurrent: true,
    }),
    counters: cmd(0x41, {
      doc: 'The performance counters as of one moment; `clear` sets them to 0 after they were read.',
      in: { clear: bool },
      out: { cyclesBusy: u64, descriptors: u64, errors: u64, bytesRead: u64, bytesWritten: u64, macs: u64 },
    }),
    reset: cmd(0x42, {
      doc: 'Resets the controller. Jobs under way end with an error; contexts and their memory stay.',
    }),
  },
})
