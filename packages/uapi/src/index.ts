export * from './common.js'
export * from './errors.js'
export {
  type AddedField,
  type AnyField,
  added,
  type Field,
  type FieldCodec,
  type FieldDescription,
  type Sink,
  type Source,
} from './field.js'
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
  type Output,
  type StructCodec,
  type StructInput,
  type StructLayout,
  type StructOutput,
  struct,
} from './struct.js'
