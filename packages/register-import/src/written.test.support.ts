import type { Access } from '@uaccel/core'

/** A field of a random map: its access kind is its register's. */
export interface RandomField {
  readonly name: string
  readonly hi: number
  readonly lo: number
  readonly doc: string
  readonly values: readonly { readonly name: string; readonly value: number }[]
  readonly reset: bigint
}

export interface RandomRegister {
  readonly name: string
  readonly offset: number
  readonly width: 8 | 16 | 32 | 64
  readonly access: Access
  readonly doc: string
  readonly count: number
  readonly fields: readonly RandomField[]
}

/** Registers, and an array of a block of them. */
export interface RandomMap {
  readonly registers: readonly RandomRegister[]
  readonly block: { readonly offset: number; readonly count: number; readonly stride: number }
  readonly inner: readonly RandomRegister[]
}

const xml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** CMSIS-SVD's words for the kinds; IP-XACT has the same. */
const xmlAccess: Readonly<Record<Access, readonly [string, string]>> = {
  ro: ['read-only', ''],
  wo: ['write-only', ''],
  rw: ['read-write', ''],
  w1c: ['read-write', 'oneToClear'],
  rc: ['read-only', ''],
}

export function asSvd({ registers, inner, block }: RandomMap): string {
  const register = ({ name, offset, width, access, doc, count, fields }: RandomRegister): string => {
    const reset = fields.reduce((sum, { reset, lo }) => sum | (reset << BigInt(lo)), 0n)
    const mask = fields.reduce(
      (sum, { hi, lo }) => sum | (((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)),
      0n,
    )
    const [kind, written] = xmlAccess[access]
    return `<register>${count > 1 ? `<dim>${count}</dim><dimIncrement>0x${(width / 8).toString(16)}</dimIncrement>` : ''}
<name>${name}${count > 1 ? '[%s]' : ''}</name><description>${xml(doc)}</description><addressOffset>0x${offset.toString(16)}</addressOffset>
<size>${width}</size><access>${kind}</access><resetValue>0x${reset.toString(16)}</resetValue><resetMask>0x${mask.toString(16)}</resetMask>
${written ? `<modifiedWriteValues>${written}</modifiedWriteValues>` : ''}${access === 'rc' ? '<readAction>clear</readAction>' : ''}<fields>${fields
      .map(
        (field, i) =>
          `<field><name>${field.name}</name><description>${xml(field.doc)}</description>${
            [
              `<bitRange>[${field.hi}:${field.lo}]</bitRange>`,
              `<lsb>${field.lo}</lsb><msb>${field.hi}</msb>`,
              `<bitOffset>${field.lo}</bitOffset><bitWidth>${field.hi - field.lo + 1}</bitWidth>`,
            ][i % 3]
          }${
            field.values.length > 0
              ? `<enumeratedValues>${field.values.map(({ name, value }) => `<enumeratedValue><name>${name}</name><value>${i % 2 ? value : `#${value.toString(2)}`}</value></enumeratedValue>`).join('')}</enumeratedValues>`
              : ''
          }</field>`,
      )
      .join('\n')}</fields></register>`
  }
  return `<?xml version="1.0"?><device><name>d</name><peripherals><peripheral><name>m</name><baseAddress>0</baseAddress><registers>
${registers.map(register).join('\n')}
<cluster><dim>${block.count}</dim><dimIncrement>${block.stride}</dimIncrement><name>BLOCK[%s]</name><addressOffset>${block.offset}</addressOffset>
${inner.map(register).join('\n')}</cluster></registers></peripheral></peripherals></device>`
}

export function asIpxact({ registers, inner, block }: RandomMap, year: 2009 | 2014): string {
  const p = year === 2009 ? 'spirit' : 'ipxact'
  const uri =
    year === 2009
      ? 'http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009'
      : 'http://www.accellera.org/XMLSchema/IPXACT/1685-2014'
  const tag = (name: string, content: string | number) => `<${p}:${name}>${content}</${p}:${name}>`
  const number = (value: bigint | number) =>
    year === 2009 ? `0x${value.toString(16)}` : `'h${value.toString(16)}`
  const register = ({ name, offset, width, access, doc, count, fields }: RandomRegister): string => {
    const [kind, written] = xmlAccess[access]
    const reset = fields.reduce((sum, { reset, lo }) => sum | (reset << BigInt(lo)), 0n)
    const mask = fields.reduce(
      (sum, { hi, lo }) => sum | (((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)),
      0n,
    )
    return tag(
      'register',
      [
        tag('name', name),
        tag('description', xml(doc)),
        count > 1 ? tag('dim', count) : '',
        tag('addressOffset', number(offset)),
        tag('size', width),
        tag('access', kind),
        year === 2009 ? tag('reset', tag('value', number(reset)) + tag('mask', number(mask))) : '',
        ...fields.map((field) =>
          tag(
            'field',
            [
              tag('name', field.name),
              tag('description', xml(field.doc)),
              tag('bitOffset', field.lo),
              year === 2014 ? tag('resets', tag('reset', tag('value', number(field.reset)))) : '',
              tag('bitWidth', field.hi - field.lo + 1),
              written ? tag('modifiedWriteValue', written) : '',
              access === 'rc' ? tag('readAction', 'clear') : '',
              field.values.length > 0
                ? tag(
                    'enumeratedValues',
                    field.values
                      .map(({ name, value }) =>
                        tag('enumeratedValue', tag('name', name) + tag('value', number(value))),
                      )
                      .join(''),
                  )
                : '',
            ].join(''),
          ),
        ),
      ].join('\n'),
    )
  }
  return `<?xml version="1.0"?><${p}:component xmlns:${p}="${uri}">${tag('name', 'c')}${tag(
    'memoryMaps',
    tag(
      'memoryMap',
      tag('name', 'm') +
        tag(
          'addressBlock',
          [
            tag('name', 'b'),
            tag('baseAddress', 0),
            tag('range', 65536),
            tag('width', 64),
            ...registers.map(register),
            tag(
              'registerFile',
              [
                tag('name', 'BLOCK'),
                tag('dim', block.count),
                tag('addressOffset', number(block.offset)),
                tag('range', number(block.stride)),
                ...inner.map(register),
              ].join(''),
            ),
          ].join('\n'),
        ),
    ),
  )}</${p}:component>`
}

const rdlAccess: Readonly<Record<Access, string>> = {
  ro: 'sw = r;',
  wo: 'sw = w;',
  rw: 'sw = rw;',
  w1c: 'sw = rw; woclr;',
  rc: 'sw = r; onread = rclr;',
}

export function asRdl({ registers, inner, block }: RandomMap): string {
  const text = (words: string) => `"${words.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
  const enums: string[] = []
  const register = ({ name, offset, width, access, doc, count, fields }: RandomRegister): string =>
    `reg { regwidth = ${width}; ${doc ? `desc = ${text(doc)};` : ''}
${fields
  .map((field, i) => {
    const type = `${name}_${field.name}_e`
    if (field.values.length > 0)
      enums.push(
        `enum ${type} { ${field.values.map(({ name, value }) => `${name} = ${value};`).join(' ')} };`,
      )
    const size = field.hi - field.lo + 1
    const reset = i % 2 ? `${field.reset}` : `${size}'h${field.reset.toString(16)}`
    return `field { ${rdlAccess[access]} ${field.doc ? `desc = ${text(field.doc)};` : ''} ${field.values.length > 0 ? `encode = ${type};` : ''} } ${field.name}[${field.hi}:${field.lo}] = ${reset};`
  })
  .join('\n')}
} ${name}${count > 1 ? `[${count}]` : ''} @ 0x${offset.toString(16)};`
  const body = `${registers.map(register).join('\n')}
regfile { ${inner.map(register).join('\n')} } BLOCK[${block.count}] @ ${block.offset} += ${block.stride};`
  return `${enums.join('\n')}\naddrmap m {\n${body}\n};\n`
}
