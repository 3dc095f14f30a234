/**
 * The agreement walked through in larger worlds than the tests have time for. One line a world on stdout; exit code 1
 * where one breaks a promise. Needs about 6 GB: `NODE_OPTIONS=--max-old-space-size=6000 npm run nightly:explore`.
 */
import { explore } from '../link/exploration/explorer.js'
import { invariantsOf } from '../link/exploration/invariants.js'
import { NIGHTLY_PROFILES } from '../link/exploration/profiles.js'

for (const profile of NIGHTLY_PROFILES) {
  const { states, ends, equal, loud, violation } = explore(profile.rules, invariantsOf(profile))
  process.stdout.write(`${JSON.stringify({ world: profile.name, states, ends, equal, loud, violation })}\n`)
  if (violation !== undefined) process.exitCode = 1
}
