/** A line of a table. */
export const line = (columns: readonly string[]) => `| ${columns.join(' | ')} |`
