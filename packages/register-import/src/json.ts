import type { Description } from './description.js'

/** The form's name and version: members may be added to it, and never change their meaning. */
export const DESCRIPTION_SCHEMA = 'uaccel.registers/1'

/** The description as JSON: values and masks, which may not fit a number, are strings such as `0x1f`; addresses, widths and counts are numbers. */
export function descriptionJson(description: Description): string {
  return JSON.stringify(
    { schema: DESCRIPTION_SCHEMA, ...description },
    (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value),
    2,
  )
}
