import { readFileSync } from 'node:fs'

/** A register as an independent reading of a file has it. It imports nothing of what it checks. */
export interface Read {
  /** Of the peripheral or memory map. */
  readonly block: string
  readonly name: string
  readonly offset: number
  readonly width: number
  readonly fields: readonly { readonly name: string; readonly hi: number; readonly lo: number }[]
}

interface Node {
  readonly tag: string
  readonly attributes: string
  readonly children: Node[]
  text: string
}

/** Enough of XML for files that are known to be well-formed. */
function parse(text: string): Node {
  const root: Node = { tag: '', attributes: '', children: [], text: '' }
  const stack = [root]
  const pattern = /<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<(\/?)(?:[\w-]+:)?([\w.-]+)([^>]*?)(\/?)>|([^<]+)/g
  for (const [, close, tag, attributes, empty, words] of text.matchAll(pattern)) {
    if (words !== undefined) stack.at(-1)!.text += words.trim()
    else if (tag === undefined) continue
    else if (close) stack.pop()
    else {
      const node: Node = { tag, attributes: attributes ?? '', children: [], text: '' }
      stack.at(-1)!.children.push(node)
      if (!empty) stack.push(node)
    }
  }
  return root.children[0]!
}

const all = (node: Node | undefined, tag: string): Node[] =>
  node?.children.filter((child) => child.tag === tag) ?? []
const first = (node: Node | undefined, tag: string): Node | undefined => all(node, tag)[0]
const has = (node: Node, tag: string) => first(node, tag) !== undefined

function number(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  if (/^#/.test(text)) return Number.parseInt(text.slice(1), 2)
  const verilog = /^(\d*)'([hdb])(\w+)$/i.exec(text)
  if (verilog) return Number.parseInt(verilog[3]!, { h: 16, d: 10, b: 2 }[verilog[2]!.toLowerCase()])
  return Number(text)
}
const value = (node: Node, tag: string, otherwise = Number.NaN) => number(first(node, tag)?.text, otherwise)

/** Registers of a CMSIS-SVD file that derives peripherals, registers and fields by the names beside them. */
export function readSvd(path: string): Read[] {
  const device = parse(readFileSync(path, 'utf8'))
  const peripherals = all(first(device, 'peripherals'), 'peripheral')
  const base = (node: Node, beside: readonly Node[]): Node => {
    const from = /derivedFrom="([^"]+)"/.exec(node.attributes)?.[1]
    const found = from && beside.find((other) => first(other, 'name')?.text === from)
    if (!found) return node
    const inherited = base(found, beside).children.filter(
      (child) => !has(node, child.tag) && !child.tag.startsWith('dim'),
    )
    return { ...node, children: [...node.children, ...inherited] }
  }
  const times = (node: Node, step: (name: string, at: number) => void): void => {
    const name = first(node, 'name')!.text
    if (!has(node, 'dim')) {
      step(name, 0)
      return
    }
    const names = first(node, 'dimIndex')?.text.split(',')
    for (let i = 0; i < value(node, 'dim'); i++)
      step(name.replace(/\[?%s\]?/, `${names?.[i]?.trim() ?? i}`), i * value(node, 'dimIncrement'))
  }
  const read: Read[] = []
  const walk = (container: Node, block: string, prefix: string, start: number, size: number): void => {
    for (const own of container.children) {
      if (own.tag !== 'register' && own.tag !== 'cluster') continue
      const node = base(own, all(container, own.tag))
      times(node, (name, step) => {
        const offset = start + value(node, 'addressOffset') + step
        const width = value(node, 'size', size)
        if (node.tag === 'cluster') {
          walk(node, block, `${prefix}${name}.`, offset, width)
          return
        }
        const list = all(first(node, 'fields'), 'field')
        const fields: { name: string; hi: number; lo: number }[] = []
        for (const field of list.map((one) => base(one, list)))
          times(field, (fieldName, bit) => {
            const range = /\[(\d+):(\d+)\]/.exec(first(field, 'bitRange')?.text ?? '')
            const lo = range ? Number(range[2]) : value(field, 'lsb', value(field, 'bitOffset'))
            const hi = range ? Number(range[1]) : value(field, 'msb', lo + value(field, 'bitWidth', 1) - 1)
            fields.push({ name: fieldName, hi: hi + bit, lo: lo + bit })
          })
        read.push({ block, name: prefix + name, offset, width, fields })
      })
    }
  }
  for (const own of peripherals) {
    const node = base(own, peripherals)
    const registers = first(node, 'registers')
    const size = value(node, 'size', value(device, 'size', 32))
    times(node, (name) => registers && walk(registers, name, '', 0, size))
  }
  return read
}

/** Registers of an IP-XACT component whose numbers are plain. */
export function readIpxact(path: string): Read[] {
  const component = parse(readFileSync(path, 'utf8'))
  const read: Read[] = []
  const times = (node: Node, bytes: number, step: (index: string, at: number) => void): void => {
    const count = value(node, 'dim', 0)
    if (count === 0) step('', 0)
    for (let i = 0; i < count; i++) step(`[${i}]`, i * bytes)
  }
  const walk = (container: Node, block: string, prefix: string, start: number, bus: number): void => {
    for (const node of container.children) {
      const name = prefix + (first(node, 'name')?.text ?? '')
      const offset = start + value(node, 'addressOffset')
      if (node.tag === 'registerFile')
        times(node, value(node, 'range'), (index, at) =>
          walk(node, block, `${name}${index}.`, offset + at, bus),
        )
      if (node.tag !== 'register') continue
      const size = value(node, 'size')
      const width = [8, 16, 32, 64].includes(size) ? size : bus
      const fields = all(node, 'field').map((field) => {
        const lo = value(field, 'bitOffset')
        return { name: first(field, 'name')!.text, hi: lo + value(field, 'bitWidth') - 1, lo }
      })
      times(node, width / 8, (index, at) =>
        read.push({ block, name: name + index, offset: offset + at, width, fields }),
      )
    }
  }
  for (const map of all(first(component, 'memoryMaps'), 'memoryMap')) {
    const blocks = all(map, 'addressBlock').filter((one) => first(one, 'usage')?.text !== 'memory')
    for (const block of blocks)
      walk(
        block,
        first(map, 'name')!.text,
        blocks.length > 1 ? `${first(block, 'name')!.text}.` : '',
        value(block, 'baseAddress'),
        value(block, 'width', 32),
      )
  }
  return read
}
