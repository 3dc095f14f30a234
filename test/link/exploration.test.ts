import { describe, expect, it } from 'vitest'
import { explore } from './exploration/explorer.js'
import { MUTATIONS } from './exploration/mutations.js'
import { invariantsOf } from './exploration/invariants.js'
import { TEST_PROFILES } from './exploration/profiles.js'

describe('every interleaving of a small world', () => {
  let states = 0

  it.each(TEST_PROFILES)('leaves the two stores equal, or says where they part: $name', (profile) => {
    const result = explore(profile.rules, invariantsOf(profile))
    states += result.states
    process.stdout.write(`${profile.name}: ${result.states} states, ${result.ends} ends, ${result.loud} of them loud\n`)
    expect(result.violation).toBeUndefined()
    expect(result.equal + result.loud).toBe(result.ends)
    expect(result.equal).toBeGreaterThan(0)
  })

  it('was walked through whole', () => {
    process.stdout.write(`${states} states in all\n`)
    expect(states).toBeGreaterThan(150_000)
  })
})

describe('a broken rule', () => {
  // Smaller worlds find these faults as surely, and sooner.
  const small = TEST_PROFILES.map((profile) => ({
    ...profile,
    rules: { ...profile.rules, units: Math.min(2, profile.rules.units) },
  })).sort((a, b) => a.rules.maxFaults - b.rules.maxFaults || a.rules.faults.length - b.rules.faults.length)

  it.each(MUTATIONS)('is found out: $name', (mutation) => {
    const found = small.some((profile) => {
      const rules = {
        ...profile.rules,
        transition: (...step: Parameters<typeof mutation.run>) => mutation.run(...step),
      }
      return explore(rules, invariantsOf(profile)).violation !== undefined
    })
    expect(found).toBe(true)
  })
})
