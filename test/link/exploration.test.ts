import { describe, expect, it } from 'vitest'
import { explore, exploreAtLength } from './exploration/explorer.js'
import { invariantsOf } from './exploration/invariants.js'
import { MUTATIONS } from './exploration/mutations.js'
import { MUTATION_PROFILES, TEST_PROFILES, type Profile } from './exploration/profiles.js'

describe('every interleaving of a small world', () => {
  let states = 0
  /** Of the largest world, on busy cores. */
  const longestMs = 300_000

  it.each(TEST_PROFILES)(
    'leaves the two stores equal, or says where they part: $name',
    { timeout: longestMs },
    async (profile) => {
      const result = await exploreAtLength(profile.rules, invariantsOf(profile))
      states += result.states
      process.stdout.write(
        `${profile.name}: ${result.states} states, ${result.ends} ends, ${result.loud} of them loud\n`,
      )
      expect(result.violation).toBeUndefined()
      // Where a site numbers anew, or a difference was accepted, the stores are held against each other by parts (`atEnd`).
      const { sites, acceptances = 0 } = profile.rules
      if (!sites.includes('java') && acceptances === 0) {
        expect(result.equal + result.loud).toBe(result.ends)
      }
      expect(result.equal).toBeGreaterThan(0)
    },
  )

  it('was walked through whole', () => {
    process.stdout.write(`${states} states in all\n`)
    expect(states).toBeGreaterThan(150_000)
  })
})

describe('a broken rule', () => {
  // Smaller worlds find these faults as surely, and sooner. A broken rule can make a world endless: a little of each is
  // looked at before more of any.
  const bounds = [2_000, 8_000, 40_000]
  const small = TEST_PROFILES.map((profile) => ({
    ...profile,
    rules: { ...profile.rules, units: Math.min(2, profile.rules.units) },
  }))

  it.each(MUTATIONS)('is found out: $name', (mutation) => {
    const { world } = mutation
    const isFound = (profile: Profile, bound: number): boolean => {
      const rules = {
        ...profile.rules,
        transition: (...step: Parameters<typeof mutation.run>) => mutation.run(...step),
      }
      const { states, violation } = explore(rules, invariantsOf(profile), bound)
      return violation !== undefined && states < bound
    }
    const found =
      world === undefined
        ? bounds.some((bound) => small.some((profile) => isFound(profile, bound)))
        : [...TEST_PROFILES, ...MUTATION_PROFILES].some(
            (profile) => profile.name.startsWith(world) && isFound(profile, Infinity),
          )
    expect(found).toBe(true)
  })
})
