import type { Greeting } from './messages.js'

/** Why two ends cannot be a link; undefined where they can. */
export function greetingProblem(mine: Greeting, theirs: Greeting): string | undefined {
  if (mine.version !== theirs.version) {
    return `this gateway speaks version ${mine.version} of the link service and the other one version ${theirs.version}: update the older one`
  }
  if (mine.kind !== theirs.kind) return `kind: "${mine.kind}" here, "${theirs.kind}" at the other end`
  if (mine.keyBytes !== theirs.keyBytes) {
    return `bytesPerKey: ${mine.keyBytes} here, ${theirs.keyBytes} at the other end`
  }
  return undefined
}
