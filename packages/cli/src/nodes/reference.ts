import { jsonName } from '../units.js'
import { fieldHelp } from './fields.js'
import { told } from './show.js'

const units: Readonly<Record<string, string>> = { time: 'ISO 8601, UTC', own: '`unit`' }
const cell = (text: string) => text.replaceAll('|', '\\|')
const unitOf = (unit: string | undefined) => units[unit ?? ''] ?? unit ?? ''

/** What docs/cli.md says of `uaccel.info/1`: a table for each part of a node. */
export function infoReference(): string {
  return told
    .map(({ name, title, list, items }) =>
      [
        `#### \`${name}\``,
        '',
        `${title}${list ? ': a list' : ''}.`,
        '',
        '| name | unit | what |',
        '| --- | --- | --- |',
        ...items.map(
          ({ key, unit, meaning }) => `| \`${jsonName(key, unit)}\` | ${unitOf(unit)} | ${cell(meaning)} |`,
        ),
        '',
      ].join('\n'),
    )
    .join('\n')
}

/** What it says of the fields of `query`. */
export function fieldReference(): string {
  return [
    '| field | unit | what |',
    '| --- | --- | --- |',
    ...fieldHelp.map(({ name, unit, meaning }) => `| \`${name}\` | ${unitOf(unit)} | ${cell(meaning)} |`),
    '',
  ].join('\n')
}
