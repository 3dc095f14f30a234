/**
 * Checks every known value of a folder of recordings, those that cannot be shipped included:
 *
 *     npm run nightly:recordings -- FOLDER
 *
 * Exit code 0 when everything there is right, 1 otherwise.
 */
import { createReadStream, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { messageOf } from '../../src/base/errors.js'
import { decodeStream } from '../../src/device/event-formats/open-stream.js'
import { RIGHT_SUMMARIES, tagsOf } from '../device/event-formats/right-values.js'

const folder = process.argv[2]
if (folder === undefined) {
  process.stderr.write('usage: npm run nightly:recordings -- FOLDER\n')
  process.exit(2)
}

let wrong = 0
const report = (what: string, differences: readonly string[]): void => {
  wrong += differences.length
  process.stdout.write(differences.length === 0 ? `right  ${what}\n` : `WRONG  ${what}\n`)
  for (const difference of differences) process.stdout.write(`       ${difference}\n`)
}
const compare = (what: string, found: unknown, expected: unknown): string[] =>
  isDeepStrictEqual(found, expected) ? [] : [`${what}: ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`]

for (const { file, expected } of RIGHT_SUMMARIES) {
  const path = join(folder, file)
  if (!existsSync(path)) {
    report(file, ['not there'])
    continue
  }
  try {
    const { summary } = await decodeStream(createReadStream(path), { name: file })
    const found = new Map(Object.entries(summary))
    report(
      file,
      Object.entries(expected).flatMap(([field, value]) => compare(field, found.get(field), value)),
    )
  } catch (error) {
    report(file, [messageOf(error)])
  }
}

const rollover = join('s15-timestamp7', 'timestamp7_c14_rollover')
if (existsSync(join(folder, `${rollover}.Aa1fX.ts`))) {
  const binary = tagsOf(folder, `${rollover}.Aa1fX.ts`, 'a1X')
  report('the three encodings hold the same detections', [
    ...compare('a0 like a1X', tagsOf(folder, `${rollover}.Aa0f.ts`, 'a0'), binary),
    ...compare('a2 like a1X', tagsOf(folder, `${rollover}.Aa2f.ts`, 'a2'), binary),
  ])
  // Input 4 is a delayed copy of input 1.
  const of = (pattern: number): bigint[] => binary.times.filter((_, i) => binary.patterns[i] === pattern)
  const [ones, eights] = [of(1), of(8)]
  const delays = ones.map((time, i) => Number((eights[i] ?? 0n) - time))
  const mean = delays.reduce((sum, delay) => sum + delay, 0) / delays.length
  report('input 4 follows input 1 by 139.115 ns', [
    ...compare('shortest', Math.min(...delays), 35_552),
    ...compare('longest', Math.max(...delays), 35_658),
    ...compare('mean', mean.toFixed(1), '35613.3'),
  ])
}

const eve = join(folder, 's15-ekpqc', 'eve-two-detectors.dat')
if (existsSync(eve)) {
  const lines = readFileSync(eve, 'latin1')
    .split(/\r?\n/)
    .filter((line) => line !== '')
  const columns = lines.map((line) => line.split(/\s+/).map(Number))
  const highest = (column: number): number => Math.max(...columns.map((values) => values[column] ?? NaN))
  report('s15-ekpqc/eve-two-detectors.dat', [
    ...compare('lines', lines.length, 1522),
    ...compare('dark lines', lines.filter((line) => line === '0.000 0.00000').length, 1387),
    ...compare('maxima', [highest(0), highest(1)], [1.598, 0.48782]),
  ])
}

process.stdout.write(wrong === 0 ? 'all right\n' : `${wrong} wrong\n`)
process.exit(wrong === 0 ? 0 : 1)
