// What tests take of the example.
export { mobilenet } from './network.js'
export { formatReport, type Summary } from './report.js'
