/** What a gateway says in its status about stores that have parted. */
import type { SiteName } from '../../../src/demo/site.js'
import type { GatewayStatus } from '../../../src/gateway/status-socket.js'

export interface Said {
  readonly by: SiteName
  /** Number of the first key that differs, as the SiteAgents number them. */
  readonly firstDifferingKey: number
  readonly reason: string
}

/** Undefined where neither gateway says so. */
export function said(a: GatewayStatus | undefined, b: GatewayStatus | undefined): Said | undefined {
  for (const [by, status] of [
    ['A', a],
    ['B', b],
  ] as const) {
    const link = status?.parts['link']
    if (link?.state !== 'diverged') continue
    const named = /from key (\d+) on/.exec(link.reason ?? '')
    if (named !== null) return { by, firstDifferingKey: Number(named[1]), reason: link.reason ?? '' }
  }
  return undefined
}
