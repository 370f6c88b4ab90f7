/** Text without SystemRDL's format codes: `[br]` is a space, `[b]...[/b]` its content (SystemRDL 2.0, annex F). */
export function plainText(text: string): string {
  return text
    .replace(/\[(br|p|\/p|\*|list|\/list|list=\w+)\]/g, ' ')
    .replace(/\[\/?(b|i|u|color|size|url|email|img|code|index|indexparent)(=[^\]]*)?\]/g, '')
    .replace(/\[(lb|rb|sp|q)\]/g, (_, code: string) => ({ lb: '[', rb: ']', sp: ' ', q: '"' })[code]!)
}
