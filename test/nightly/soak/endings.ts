/** How a cycle's session may end: a stop, or something dies. */
import type { Random } from '../../../src/base/random.js'
import type { SiteName } from '../../../src/demo/site.js'
import { between, oneOf, weighted } from './seeded.js'
import type { BedProgram } from './bed.js'

export type Ending =
  | { readonly kind: 'stop'; readonly at: SiteName }
  /** SIGKILL, and a new process after so many ms. */
  | { readonly kind: 'killGateway'; readonly at: SiteName; readonly pauseMs: number }
  /** SIGTERM: the gateway settles first. */
  | { readonly kind: 'endGateway'; readonly at: SiteName; readonly pauseMs: number }
  /** SIGKILL: its keys are gone. `both`: the operator renews the other one as well, at once. */
  | { readonly kind: 'killSiteAgent'; readonly at: SiteName; readonly both: boolean; readonly pauseMs: number }
  /** The SiteAgent loses its streams to the device. */
  | { readonly kind: 'cutStreams'; readonly at: SiteName }
  | { readonly kind: 'cutTunnel'; readonly at: SiteName }
  | { readonly kind: 'unplug'; readonly at: SiteName; readonly forMs: number }
  /** A Java site opens one more reader with each StartNode, also while one runs. */
  | { readonly kind: 'startAgain' }

interface Choice {
  readonly weight: number
  readonly make: (random: Random, at: SiteName) => Ending
}

const pauseMs = (random: Random): number => between(random, 0, 300)

const disasters: readonly Choice[] = [
  { weight: 4, make: (random, at) => ({ kind: 'killGateway', at, pauseMs: pauseMs(random) }) },
  { weight: 1, make: (random, at) => ({ kind: 'endGateway', at, pauseMs: pauseMs(random) }) },
  {
    weight: 2,
    make: (random, at) => ({ kind: 'killSiteAgent', at, both: random.fraction() < 0.5, pauseMs: pauseMs(random) }),
  },
  { weight: 2, make: (_, at) => ({ kind: 'cutStreams', at }) },
  { weight: 2, make: (_, at) => ({ kind: 'cutTunnel', at }) },
  { weight: 2, make: (random, at) => ({ kind: 'unplug', at, forMs: between(random, 50, 400) }) },
]

const cppChoices: readonly Choice[] = [...disasters, { weight: 10, make: (_, at) => ({ kind: 'stop', at }) }]

/** A Java SiteAgent never stops a link. */
const javaChoices: readonly Choice[] = [...disasters, { weight: 5, make: () => ({ kind: 'startAgain' }) }]

/** Of two different sites only the C++ one can be asked to stop. */
const stopAt = (cpp: SiteName): readonly Choice[] => [
  ...disasters,
  { weight: 10, make: () => ({ kind: 'stop', at: cpp }) },
]

const choices: Readonly<Record<BedProgram, readonly Choice[]>> = {
  cpp: cppChoices,
  fork: cppChoices,
  java: javaChoices,
  'cpp+java': stopAt('A'),
  'java+cpp': stopAt('B'),
}

export function chooseEnding(random: Random, program: BedProgram): Ending {
  return weighted(random, choices[program]).make(random, oneOf(random, ['A', 'B']))
}

export function describeEnding(ending: Ending): string {
  switch (ending.kind) {
    case 'stop':
      return `stop at ${ending.at}`
    case 'killGateway':
      return `gateway ${ending.at} killed`
    case 'endGateway':
      return `gateway ${ending.at} ended in order`
    case 'killSiteAgent':
      return `SiteAgent ${ending.at} killed${ending.both ? ', the other one renewed' : ''}`
    case 'cutStreams':
      return `streams of SiteAgent ${ending.at} cut`
    case 'cutTunnel':
      return `tunnel ${ending.at} cut`
    case 'unplug':
      return `device ${ending.at} unplugged for ${ending.forMs} ms`
    case 'startAgain':
      return 'StartNode once more'
  }
}
