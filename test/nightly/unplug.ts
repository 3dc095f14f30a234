/**
 * `npm run nightly:unplug -- [--driver NAME] [--times 1000]`: a device of each driver (or of one) pulled out at any
 * moment and put back under another number. Prints one JSON line a driver; exit code 0 only where each was open again
 * within 2 s, every time, and no descriptor was left. Of Clavis2 the host programs are killed instead: good where keys
 * came again every time, equal at both ends, and no program was left.
 */
import { parseArgs } from 'node:util'
import { killAndRestart } from '../drivers/clavis2/killing.js'
import { DRIVER_CASES } from '../drivers/support/every-driver.js'
import { unplugAndReplug } from '../drivers/support/unplugging.js'

const LONGEST_REOPEN_MS = 2_000
const SPARE_DESCRIPTORS = 3

const { values } = parseArgs({
  options: { driver: { type: 'string' }, times: { type: 'string', default: '1000' } },
})
const cases = DRIVER_CASES.filter(({ driver }) => values.driver === undefined || driver === values.driver)
const killsPrograms = values.driver === undefined || values.driver === 'clavis2'
if (cases.length === 0 && !killsPrograms)
  throw new Error(`drivers are: ${DRIVER_CASES.map(({ driver }) => driver).join(', ')}, clavis2`)
let good = true
for (const chosen of cases) {
  const report = await unplugAndReplug(chosen, Number(values.times))
  const held =
    report.slowestReopenMs < LONGEST_REOPEN_MS &&
    report.descriptorsAfter <= report.descriptorsBefore + SPARE_DESCRIPTORS
  good &&= held
  process.stdout.write(`${JSON.stringify({ good: held, ...report })}\n`)
}
if (killsPrograms) {
  const report = await killAndRestart(Number(values.times))
  const held = report.programsLeft === 0 && report.descriptorsAfter <= report.descriptorsBefore + SPARE_DESCRIPTORS
  good &&= held
  process.stdout.write(`${JSON.stringify({ good: held, ...report })}\n`)
}
process.exitCode = good ? 0 : 1
