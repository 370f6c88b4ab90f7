export { type ConnectOptions, connectVfioUser } from './client.js'
export { type ServeOptions, type Server, serveVfioUser } from './server.js'
