import { describe, expect, it } from 'vitest'
import { explore } from './exploration/explorer.js'
import { invariantsOf } from './exploration/invariants.js'
import { TEST_PROFILES } from './exploration/profiles.js'

describe('every interleaving of a small world', () => {
  let states = 0

  it.each(TEST_PROFILES)('leaves the two stores equal, or says where they part: $name', (profile) => {
    const result = explore(profile.rules, invariantsOf(profile))
    states += result.states
    process.stdout.write(`${profile.name}: ${result.states} states, ${result.ends} ends, ${result.loud} of them loud\n`)
    expect(result.violation).toBeUndefined()
    // Where a site numbers anew, or a difference was accepted, the stores are held against each other by parts (`atEnd`).
    const { sites, acceptances = 0 } = profile.rules
    if (!sites.includes('java') && acceptances === 0) {
      expect(result.equal + result.loud).toBe(result.ends)
    }
    expect(result.equal).toBeGreaterThan(0)
  })

  it('was walked through whole', () => {
    process.stdout.write(`${states} states in all\n`)
    expect(states).toBeGreaterThan(150_000)
  })
})
