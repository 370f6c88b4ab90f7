import { createFunction, Faults, type ModelFunction } from '@uaccel/model'
import { type Server, serveVfioUser } from '@uaccel/vfio-user'
import { findMatrix } from './find.js'
import { Moments } from './moments.js'
import type { PeerRequest } from './peers.js'

/** Serves the model of a matrix (arguments: its module and the name of its export), one device after the other. */
const [module, name] = process.argv.slice(2) as [string, string]
const { definition, options } = await findMatrix(module, name)
const moments = new Moments()
let device: ModelFunction | undefined
let server: Server | undefined

process.on('message', (request: PeerRequest) => process.send?.(answer(request) ?? null))
process.on('disconnect', () => process.exit())
process.send?.('ready')

function answer(request: PeerRequest): unknown {
  switch (request.ask) {
    case 'serve': {
      server?.close()
      const faults = new Faults()
      moments.faults = faults
      device = createFunction(moments.instrument(definition), options.model?.() ?? {}, {
        faults,
        strict: false,
        mapped: options.mapped ?? false,
      })
      server = serveVfioUser({ path: request.path, device })
      return undefined
    }
    case 'arm':
      moments.arm(request.fault, request.index)
      return undefined
    case 'lift':
      return moments.lift()
    case 'violations':
      return device?.violations.take().map(({ message }) => message) ?? []
    case 'end':
      server?.close()
      server = undefined
      return undefined
  }
}
