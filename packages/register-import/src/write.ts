import type { Description } from './description.js'
import { type Code, clean, comment, type Entry, layOut, quoted } from './layout.js'
import type { Planned, PlannedField, PlannedMap, PlannedRegister } from './plan.js'

const formatNames = { svd: 'CMSIS-SVD', ipxact: 'IP-XACT', rdl: 'SystemRDL' } as const

/** The TypeScript file that declares these maps; `source` is the name of the file they are from. */
export function writeTypeScript(
  { format }: Pick<Description, 'format'>,
  source: string,
  maps: readonly PlannedMap[],
): string {
  const bodies = new Map<string, string>()
  const declarations = maps.map(({ name, doc, members }) => {
    const start = `export const ${name} = `
    const body = layOut({ call: 'registers', args: [blockOf(members)] }, '', start.length, 0)
    const same = bodies.get(body)
    bodies.set(body, same ?? name)
    return `${comment(doc, '')}${start}${same ?? body}\n`
  })
  const text = declarations.join('\n')
  const used = ['bits', 'choice', 'flag', 'reg8', 'reg16', 'reg32', 'reg64', 'regArray', 'registers'].filter(
    (name) => new RegExp(`\\b${name}\\(`).test(text),
  )
  return `// From ${clean(source)} (${formatNames[format]}) by \`uaccel reg import\`: a change here is gone after the next import.
import { ${used.join(', ')} } from '@uaccel/core'

${text}`
}

function blockOf(members: readonly Planned[]): Code {
  const digits = Math.max(
    2,
    ...members.map((member) => ('offset' in member ? hexOf(member.offset).length : 0)),
  )
  return {
    entries: members.map((member): Entry => {
      const { name: key, doc } = member
      if (member.kind === 'array') {
        const { count, strideBytes } = member.dimension
        return { key, doc, value: arrayOf(count, strideBytes, blockOf(member.members)) }
      }
      const { dimension } = member
      const register = registerOf(member, digits)
      return {
        key,
        doc,
        value: dimension ? arrayOf(dimension.count, dimension.strideBytes, register) : register,
      }
    }),
  }
}

const arrayOf = (count: number, strideBytes: number, element: Code): Code => ({
  call: 'regArray',
  args: [`${count}`, strideBytes < 10 ? `${strideBytes}` : `0x${hexOf(strideBytes)}`, element],
})

function registerOf({ width, offset, access, fields, line, reset }: PlannedRegister, digits: number): Code {
  const all = (1n << BigInt(width)) - 1n
  const options: Entry[] = [
    ...(line === undefined ? [] : [{ key: 'doc', value: quoted(line) }]),
    ...(reset ? [{ key: 'reset', value: literal(reset.value) }] : []),
    ...(reset && reset.mask !== all ? [{ key: 'resetMask', value: literal(reset.mask) }] : []),
  ]
  return {
    call: `reg${width}`,
    args: [
      `0x${hexOf(offset).padStart(digits, '0')}`,
      `'${access}'`,
      ...(fields.length > 0 || options.length > 0 ? [{ entries: fields.map(fieldOf) }] : []),
      ...(options.length > 0 ? [{ entries: options }] : []),
    ],
  }
}

function fieldOf({ name: key, doc, field }: PlannedField): Entry {
  const { hi, lo } = field
  if (field.kind === 'flag') return { key, doc, value: `flag(${lo})` }
  if (field.kind === 'bits') return { key, doc, value: `bits(${hi}, ${lo})` }
  const entries = Object.entries<number>(field.choices).map(([name, value]) => ({
    key: name,
    value: `${value}`,
  }))
  return { key, doc, value: { call: 'choice', args: [`${hi}`, `${lo}`, { entries }] } }
}

const hexOf = (value: number | bigint): string => value.toString(16)
const literal = (value: bigint): string =>
  value < 10n ? `${value}` : `0x${hexOf(value)}${value > BigInt(Number.MAX_SAFE_INTEGER) ? 'n' : ''}`
