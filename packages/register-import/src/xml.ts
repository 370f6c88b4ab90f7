import sax from 'sax'
import { notTaken, type Place, wrongAt } from './description.js'
import { MAX_DEPTH } from './limits.js'

/** An element of an XML file. Names are without their namespace's prefix. */
export class Element {
  readonly name: string
  /** The URI of its namespace; empty without one. */
  readonly namespace: string
  readonly attributes: Readonly<Record<string, string>>
  readonly place: Place
  readonly parent: Element | undefined
  readonly children: Element[] = []
  /** Its own text, whitespace trimmed. */
  text = ''

  constructor(
    name: string,
    namespace: string,
    attributes: Readonly<Record<string, string>>,
    place: Place,
    parent: Element | undefined,
  ) {
    this.name = name
    this.namespace = namespace
    this.attributes = attributes
    this.place = place
    this.parent = parent
  }

  /** The first child of that name. */
  child(name: string): Element | undefined {
    return this.children.find((child) => child.name === name)
  }

  /** The children of any of these names, in order. */
  all(...names: string[]): Element[] {
    return this.children.filter(({ name }) => names.includes(name))
  }

  /** The text of the first child of that name; `undefined` where there is none. */
  textOf(name: string): string | undefined {
    return this.child(name)?.text
  }

  /** The text of a child that must be there. */
  required(name: string): string {
    const text = this.textOf(name)
    if (text !== undefined && text !== '') return text
    throw wrongAt(this.place, `<${this.name}> has no <${name}>`)
  }
}

/**
 * Reads an XML file as a tree. A declaration of entities is refused, so that nothing in it can grow or reach for other files.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT with line and column where it is not well-formed, ERR_ACCEL_UNSUPPORTED for entities
 */
export function parseXml(file: string, text: string): Element {
  const parser = sax.parser(true, { xmlns: true, position: true })
  let root: Element | undefined
  let open: Element | undefined
  let depth = 0
  const here = (): Place => ({ file, line: parser.line + 1, column: Math.max(1, parser.column) })
  // where the tag begins, which the parser has read to its end
  let line = 1
  let lineStart = 0
  const tagPlace = (): Place => {
    const start = parser.startTagPosition - 1
    for (let end = text.indexOf('\n', lineStart); end >= 0 && end < start; ) {
      line++
      lineStart = end + 1
      end = text.indexOf('\n', lineStart)
    }
    return { file, line, column: start - lineStart + 1 }
  }
  parser.onerror = (error) => {
    throw wrongAt(here(), `not well-formed XML: ${error.message.split('\n')[0]}`)
  }
  parser.ondoctype = (declaration) => {
    if (/<!ENTITY|%|\[/.test(declaration))
      throw notTaken(here(), 'it declares entities of its own, which are not taken: write them out')
  }
  parser.onopentag = (tag) => {
    const place = tagPlace()
    if (++depth > MAX_DEPTH) throw notTaken(place, `elements stand more than ${MAX_DEPTH} deep in each other`)
    const { local, uri, attributes } = tag as sax.QualifiedTag
    const values = Object.fromEntries(
      Object.values(attributes).map((attribute) => [attribute.local || attribute.name, attribute.value]),
    )
    const element = new Element(local, uri, values, place, open)
    open?.children.push(element)
    root ??= element
    open = element
  }
  const append = (part: string): void => {
    if (open) open.text += part
  }
  parser.ontext = append
  parser.oncdata = append
  parser.onclosetag = () => {
    depth--
    if (!open) return
    open.text = open.text.trim()
    open = open.parent
  }
  parser.write(text).close()
  if (root) return root
  throw wrongAt({ file, line: 1, column: 1 }, 'there is no element in it: wanted an XML file')
}
