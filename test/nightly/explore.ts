/**
 * The agreement walked through in larger worlds than the tests have time for. One line a world on stdout; exit code 1
 * where one breaks a promise. Before that each rule is broken once, to see that the walk finds it. Needs about 6 GB: `NODE_OPTIONS=--max-old-space-size=6000 npm run nightly:explore`.
 */
import { explore } from '../link/exploration/explorer.js'
import { invariantsOf } from '../link/exploration/invariants.js'
import { MUTATIONS } from '../link/exploration/mutations.js'
import { NIGHTLY_PROFILES, TEST_PROFILES } from '../link/exploration/profiles.js'

// Smaller worlds find these faults as surely, and sooner.
const small = TEST_PROFILES.map((profile) => ({
  ...profile,
  rules: { ...profile.rules, units: Math.min(2, profile.rules.units) },
})).sort((a, b) => a.rules.maxFaults - b.rules.maxFaults || a.rules.faults.length - b.rules.faults.length)

for (const mutation of MUTATIONS) {
  const found = small.some((profile) => {
    const rules = { ...profile.rules, transition: (...step: Parameters<typeof mutation.run>) => mutation.run(...step) }
    return explore(rules, invariantsOf(profile)).violation !== undefined
  })
  process.stdout.write(`${JSON.stringify({ brokenRule: mutation.name, found })}\n`)
  if (!found) process.exitCode = 1
}

for (const profile of NIGHTLY_PROFILES) {
  const { states, ends, equal, loud, violation } = explore(profile.rules, invariantsOf(profile))
  process.stdout.write(`${JSON.stringify({ world: profile.name, states, ends, equal, loud, violation })}\n`)
  if (violation !== undefined) process.exitCode = 1
}
