/** When in a session it ends, and how slow the SiteAgents are meanwhile. */
import type { Random } from '../../../src/base/random.js'
import type { SiteName } from '../../../src/demo/site.js'
import { between, oneOf } from './seeded.js'

export interface Moment {
  /** Not before keys came to both sites; otherwise in the middle of the start. */
  readonly afterKeys: boolean
  readonly delayMs: number
  /** ms between a message's arrival at a SiteAgent and its being read, and from there to its being stored. */
  readonly slowness: Readonly<Record<SiteName, { readonly readDelayMs: number; readonly storeDelayMs: number }>>
}

/** No message is under way at a SiteAgent any more after this long. */
export const longestSlownessMs = 80

export function chooseMoment(random: Random): Moment {
  const afterKeys = random.fraction() < 0.75
  const slowness = (): Moment['slowness'][SiteName] => ({
    readDelayMs: oneOf(random, [0, 0, 2, 40]),
    storeDelayMs: oneOf(random, [0, 0, 2, 40]),
  })
  return {
    afterKeys,
    delayMs: between(random, 0, afterKeys ? 400 : 120),
    slowness: { A: slowness(), B: slowness() },
  }
}
