import type { Command } from 'commander'

/** A command of `uaccel`, whose module is loaded only where it is wanted. */
interface CommandEntry {
  readonly description: string
  /** What gives the command its arguments, options, help and action. */
  readonly load: () => Promise<(command: Command) => void>
}

/** By name, in the order of the help. */
export const commands: Readonly<Record<string, CommandEntry>> = {
  list: {
    description: 'devices, and which driver here would take them; with --nodes those that are served',
    load: async () => (await import('./commands/list.js')).listCommand,
  },
  bind: {
    description: 'give a PCI device to vfio-pci, so that programs can open it',
    load: async () => (await import('./commands/bind.js')).bindCommand,
  },
  unbind: {
    description: 'give a PCI device back to the driver that it had before uaccel bind',
    load: async () => (await import('./commands/unbind.js')).unbindCommand,
  },
  doctor: {
    description: 'check what a driver needs to open a device, and tell how to mend what is missing',
    load: async () => (await import('./commands/doctor.js')).doctorCommand,
  },
  config: {
    description: 'configuration space of a device, decoded',
    load: async () => (await import('./commands/config.js')).configCommand,
  },
  reg: {
    description: 'read and write registers by name',
    load: async () => (await import('./commands/reg.js')).regCommand,
  },
  irq: {
    description:
      'interrupts of a device or a node: kinds, vectors, counts; --test fires them without the device',
    load: async () => (await import('./commands/irq.js')).irqCommand,
  },
  'dma-test': {
    description: "walk buffers through a device's own copy, and find which addresses it drives",
    load: async () => (await import('./commands/dma-test.js')).dmaTestCommand,
  },
  faults: {
    description: 'what an IOMMU refused, and errors of PCI Express, decoded',
    load: async () => (await import('./commands/faults.js')).faultsCommand,
  },
  reset: {
    description: 'reset a device or a node, and see that it answers',
    load: async () => (await import('./commands/reset.js')).resetCommand,
  },
  model: {
    description: 'serve a device model over vfio-user until interrupted',
    load: async () => (await import('./commands/model.js')).modelCommand,
  },
  dev: {
    description: 'develop a driver: it runs against its model, and is reloaded when a file changes',
    load: async () => (await import('./commands/dev.js')).devCommand,
  },
  record: {
    description: 'run a program and record what passes between its devices and their drivers',
    load: async () => (await import('./commands/record.js')).recordCommand,
  },
  replay: {
    description: 'serve a recording as a device over vfio-user, or print it',
    load: async () => (await import('./commands/replay.js')).replayCommand,
  },
  serve: {
    description: 'make nodes that other processes open: a process for each device, under a supervisor',
    load: async () => (await import('./commands/serve.js')).serveCommand,
  },
  uapi: {
    description: "reference page, C header or ABI snapshot of a device's commands",
    load: async () => (await import('./commands/uapi.js')).uapiCommand,
  },
  info: {
    description: 'all that a node tells of its device: state, limits, memory, engines, clients, counters',
    load: async () => (await import('./commands/info.js')).infoCommand,
  },
  query: {
    description: 'chosen fields of nodes as CSV, JSON or a table, once or again and again',
    load: async () => (await import('./commands/query.js')).queryCommand,
  },
  top: {
    description: 'a live screen of nodes: devices, engines, clients',
    load: async () => (await import('./commands/top.js')).topCommand,
  },
  events: {
    description: 'what happens to devices, as it happens',
    load: async () => (await import('./commands/events.js')).eventsCommand,
  },
  attr: {
    description: 'attributes of a node: list, show, set, watch',
    load: async () => (await import('./commands/attr.js')).attrCommand,
  },
  trace: {
    description: 'registers, interrupts, DMA, commands and jobs of a node as they happen, or of a file',
    load: async () => (await import('./commands/trace.js')).traceCommand,
  },
  completion: {
    description: 'completion for bash, zsh or fish',
    load: async () => (await import('./commands/completion.js')).completionCommand,
  },
  lab: {
    description:
      'run a command in an emulated guest, as root, with devices bound to vfio-pci and the files of this machine read-only',
    load: async () => (await import('./commands/lab.js')).labCommand,
  },
  infer: {
    description: 'run an ONNX model on an accelerator; its outputs go to files, or to stdout as JSON',
    load: async () => (await import('./commands/infer.js')).inferCommand,
  },
}
