export type { ConnectionLimits } from './connection.js'
export { type ConnectionInfo, NodeServer, type ServeNodeOptions, serveNode } from './server.js'
