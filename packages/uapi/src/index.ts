export { type CallOptions, DeviceClient, type DispatchOptions, type Reply } from './client.js'
export * from './common.js'
export { type ClientEvent, CommonClient } from './common-client.js'
export * from './control.js'
export * from './errors.js'
export {
  type AddedField,
  type AnyField,
  added,
  doc,
  type Field,
  type FieldCodec,
  type FieldDescription,
  type IntDescription,
  type MemberDescription,
  type Sink,
  type Source,
} from './field.js'
export * from './protocol.js'
export * from './query.js'
export * from './scalars.js'
export {
  type Command,
  type CommandDefinition,
  type CommandDefinitions,
  type CommandInput,
  type CommandOutput,
  type CommandReply,
  type CommandRequest,
  type CommandsOf,
  cmd,
  FIRST_DRIVER_COMMAND,
  type Uapi,
  uapi,
} from './schema.js'
export { array, bytes, string } from './sequences.js'
export {
  type FieldLayout,
  type Fields,
  type Input,
  MAX_TAIL_BYTES,
  type Output,
  type StructCodec,
  type StructInput,
  type StructLayout,
  type StructOutput,
  struct,
  structCodec,
} from './struct.js'
