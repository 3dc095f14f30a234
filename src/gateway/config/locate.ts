/** Finds the line on which a key of a TOML or JSON document stands, for messages that name it. */

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}

/**
 * 1-based line of `path` (keys from the root; array indices are passed over), or of its deepest part that can be found;
 * undefined where nothing of it can.
 */
export function lineOfKey(text: string, path: readonly PropertyKey[]): number | undefined {
  const keys = path.filter((part) => typeof part === 'string')
  let from = 0
  let line: number | undefined
  keys.forEach((key, depth) => {
    const name = escaped(key)
    const section = escaped(keys.slice(0, depth + 1).join('.'))
    // A TOML table header, a TOML assignment, or a JSON member.
    const pattern = new RegExp(
      `^[ \\t]*\\[+[ \\t]*${section}[ \\t]*\\]+|^[ \\t]*"?${name}"?[ \\t]*=|"${name}"[ \\t\\n]*:|[{,][ \\t]*${name}[ \\t]*=`,
      'm',
    )
    const match = pattern.exec(text.slice(from))
    if (match === null) return
    const start = from + match.index + (match[0].length - match[0].trimStart().length)
    line = lineAt(text, start)
    from = from + match.index + match[0].length
  })
  return line
}
