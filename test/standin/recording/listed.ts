/** The differences that docs/recording-differences.md lists, as patterns. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface ListedDifference {
  readonly pattern: string
  matches(where: string): boolean
}

/** One for each table row that begins with a name in backquotes. */
export function listedDifferences(): ListedDifference[] {
  const file = fileURLToPath(new URL('../../../docs/recording-differences.md', import.meta.url))
  return [...readFileSync(file, 'utf8').matchAll(/^\| `([^`]+)`/gm)].map((match) => {
    const pattern = match[1] ?? ''
    const parts = pattern.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
    const form = new RegExp(`^${parts.join('.*')}$`)
    return { pattern, matches: (where) => form.test(where) }
  })
}
