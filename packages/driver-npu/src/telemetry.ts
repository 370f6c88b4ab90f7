import type { AttributeDefinition, AttributeDefinitions, Telemetry } from '@uaccel/accel'
import { accelError } from '@uaccel/uapi'
import type { Npu } from './npu.js'

/** What the driver knows of its device; the NPU has no sensors, and measures neither power nor time. */
export function npuTelemetry(npu: Npu): Telemetry {
  const { capabilities: has } = npu
  return {
    name: `NPU-1 ${has.version}`,
    health() {
      const reason = npu.fatal
      return reason === undefined ? { state: 'operational' } : { state: 'needsReset', reason }
    },
    limits: () => [
      { name: 'queues', value: has.queues },
      { name: 'windows', value: has.windows },
      { name: 'minRingEntries', value: has.minRingEntries },
      { name: 'maxRingEntries', value: has.maxRingEntries },
      { name: 'maxDimension', value: has.maxDimension },
      { name: 'maxElements', value: has.maxElements },
      { name: 'maxMacs', value: has.maxMacs },
    ],
    memoryRegions: () => [
      { name: 'card', sizeBytes: has.cardBytes, usedBytes: npu.cardBytesInUse, mappable: true },
    ],
    engines: () => [
      // PERF_CYCLES counts while at least one descriptor is being executed (4.2): the controller is one engine.
      {
        name: 'npu',
        busyNs: (npu.counters().cyclesBusy * 1e6) / has.clockKhz,
        heartbeat: npu.heartbeat,
      },
    ],
    clocks: () => [{ name: 'core', hz: has.clockKhz * 1000 }],
  }
}

/** The NPU's own attributes, but for those that tell of changes. */
export function npuAttributes(npu: Npu): AttributeDefinitions {
  const { capabilities: has } = npu
  const integer = (show: () => number, unit = ''): AttributeDefinition => ({ show, type: 'integer', unit })
  const counter = (name: keyof ReturnType<Npu['counters']>, unit = '') =>
    integer(() => npu.counters()[name], unit)
  const queues = Array.from({ length: has.queues }, (_, index): [string, AttributeDefinition] => [
    `queues/${index}`,
    {
      show() {
        const { state, cause } = npu.queueState(index)
        return cause === 'none' ? `${state}` : `${state} ${cause}`
      },
      scope: 'debug',
    },
  ])
  return {
    version: { show: () => has.version },
    heartbeat: integer(() => npu.heartbeat),
    irqMode: { show: () => npu.irqMode },
    'queues/total': integer(() => has.queues),
    'card/usedBytes': integer(() => npu.cardBytesInUse, 'bytes'),
    'performance/cyclesBusy': counter('cyclesBusy', 'cycles'),
    'performance/descriptors': counter('descriptors'),
    'performance/errors': counter('errors'),
    'performance/bytesRead': counter('bytesRead', 'bytes'),
    'performance/bytesWritten': counter('bytesWritten', 'bytes'),
    'performance/macs': counter('macs'),
    'performance/clear': {
      store(value) {
        if (value !== '1')
          throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `clear wants 1, found ${JSON.stringify(value)}`)
        npu.clearCounters()
      },
      scope: 'debug',
    },
    ...Object.fromEntries(queues),
  }
}
