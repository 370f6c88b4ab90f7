import { bool, enumeration, flags, u32, u64 } from './scalars.js'
import { cmd, uapi } from './schema.js'
import { array, string } from './sequences.js'
import { struct } from './struct.js'

/** Name of the node by which a supervisor is asked and told: `openAccel(controlUapi, CONTROL_NODE)`. */
export const CONTROL_NODE = 'control'
/** Nodes that one answer has room for. */
export const NODES_AT_ONCE = 16

/**
 * What a supervisor of device nodes answers on its own node, whatever its devices do. Who may open it may ask; `reload`, `start` and
 * `stop` are for root and the user of the supervisor. Append-only, as the commands of drivers are.
 */
export const controlUapi = uapi({
  name: 'control',
  version: 1,
  commands: {
    nodes: cmd(0x40, {
      doc:
        'The nodes that there are or are to be, in the order of their numbers, from entry `from` on; `total` counts all. `failed` ' +
        'is not tried again by itself, `backOff` is, `retryNs` from now; `stopped` was stopped by `stop`. `status` and `opens` are ' +
        'what the process of the device said last. `sinceNs` is when the state began, as CLOCK_REALTIME counts, `restarts` counts ' +
        'processes after the first, and `reason` says why it does not run, or did not the last time. `driver` and `transport` are ' +
        'empty until they are known.',
      in: { from: u32 },
      out: {
        total: u32,
        entries: array(
          struct({
            name: string(32),
            driver: string(32),
            transport: string(16),
            address: string(256),
            state: enumeration({ starting: 0, running: 1, backOff: 2, failed: 3, stopped: 4, stopping: 5 }),
            known: flags({ pid: 0, retry: 1, status: 2 }),
            pid: u32,
            restarts: u32,
            sinceNs: u64,
            retryNs: u64,
            status: enumeration({
              operational: 0,
              inReset: 1,
              needsReset: 2,
              malfunction: 3,
              beingCreated: 4,
              beingCleaned: 5,
              removed: 6,
            }),
            opens: u32,
            exclusive: bool,
            reason: string(256),
          }),
          NODES_AT_ONCE,
        ),
      },
      concurrent: true,
    }),
    reload: cmd(0x41, {
      doc:
        'Reads the configuration anew. What is wrong in it changes nothing, and is the answer. Devices whose configuration is the ' +
        'same are left alone. The answer comes when what went is gone; what came may still be starting.',
      out: { added: u32, removed: u32, changed: u32, kept: u32 },
      concurrent: true,
    }),
    start: cmd(0x42, {
      doc: 'Starts a node that was stopped, failed, or waits for its next attempt. The answer comes when it runs, or why it does not.',
      in: { node: string(32) },
      concurrent: true,
    }),
    stop: cmd(0x43, {
      doc:
        'Stops a node until it is started: opens are refused, what is under way gets the time that the configuration gives it, the ' +
        'device is brought to rest. The answer comes when its process has ended.',
      in: { node: string(32) },
      concurrent: true,
    }),
  },
})
