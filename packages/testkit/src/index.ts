export { type EduContractOptions, eduContract } from './edu.js'
export { leaks, leavesNothing, type Resources, resources } from './resources.js'
export { withIrqs } from './restrict.js'
export { type TransportContractOptions, transportContract } from './transport.js'
