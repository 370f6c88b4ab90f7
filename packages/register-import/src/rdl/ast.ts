import type { Place } from '../description.js'

/** Kinds of components (SystemRDL 2.0, clause 5). */
export type Kind = 'addrmap' | 'regfile' | 'reg' | 'field' | 'mem' | 'signal'

export type Expression = { readonly place: Place } & (
  | { readonly form: 'number'; readonly value: bigint }
  | { readonly form: 'string'; readonly value: string }
  | { readonly form: 'boolean'; readonly value: boolean }
  /** A word that a property takes, such as `rw` or `regalign`. */
  | { readonly form: 'word'; readonly word: string }
  | { readonly form: 'enum'; readonly type: Enumeration }
  /** A parameter, or something of the design, which is not followed. */
  | { readonly form: 'name'; readonly name: string; readonly scope: Definition }
  | { readonly form: 'reference'; readonly text: string }
  | { readonly form: 'unary'; readonly sign: string; readonly operand: Expression }
  | { readonly form: 'binary'; readonly sign: string; readonly left: Expression; readonly right: Expression }
  | {
      readonly form: 'choice'
      readonly condition: Expression
      readonly yes: Expression
      readonly no: Expression
    }
  | {
      readonly form: 'cast'
      readonly to: Expression | 'boolean' | 'bit' | 'longint'
      readonly of: Expression
    }
  /** Arrays and structures, which only properties of the user have. */
  | { readonly form: 'aggregate' }
)

export interface Enumeration {
  readonly name: string
  readonly values: readonly { readonly name: string; readonly value: bigint; readonly doc?: string }[]
}

export interface Parameter {
  readonly name: string
  readonly initial: Expression | undefined
  readonly place: Place
}

/** `name = value;`, which is `true` where there is none. */
export interface Assignment {
  readonly form: 'assignment'
  readonly name: string
  readonly value: Expression
  readonly place: Place
}

/** `a.b->name = value;` */
export interface DynamicAssignment {
  readonly form: 'dynamic'
  readonly path: readonly string[]
  readonly assignment: Assignment
}

/** One thing that is there: `type #(.N(4)) name[2][3] @0x10 += 8;` */
export interface Instantiation {
  readonly form: 'instance'
  readonly type: Definition
  readonly name: string
  readonly place: Place
  readonly arguments: ReadonlyMap<string, Expression>
  readonly dimensions: readonly Expression[]
  readonly range: { readonly left: Expression; readonly right: Expression } | undefined
  readonly reset: Expression | undefined
  readonly address: Expression | undefined
  readonly stride: Expression | undefined
  readonly alignment: Expression | undefined
}

export type Statement = Assignment | DynamicAssignment | Instantiation

/** A component that is defined: the type of what is there. */
export interface Definition {
  readonly kind: Kind | 'root'
  /** Of an address map at the top without a name, its instance's. */
  name: string | undefined
  readonly place: Place
  /** The component in whose braces it stands. */
  readonly outer: Definition | undefined
  readonly parameters: Parameter[]
  /** What `default` in the components around it had said up to here. */
  readonly defaults: ReadonlyMap<string, Assignment>
  readonly body: Statement[]
}
