/** What `qkd-gw site` was asked for, checked where the action needs it. */
export interface SiteFlags {
  json?: true
  csv?: true
  id?: string
  otherId?: string
  keyId?: bigint
  filter: readonly string[]
  exclude?: true
  static?: true
  rate: number
  seconds?: number
  timeout: number
  stalledAfter: number
  tls?: true
  rootca?: string
  cert?: string
  key?: string
}

export const siteActions = ['details', 'devices', 'join', 'unjoin', 'keep-up', 'key', 'stats', 'unregister'] as const
export type SiteAction = (typeof siteActions)[number]
