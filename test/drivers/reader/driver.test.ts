import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { Device } from '../../../src/device/contract.js'
import { startProgram, type StartProgram } from '../../../src/io/child.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { silentLogger } from '../../../src/observe/log.js'
import { createReaderDevice } from '../../../drivers/reader/driver.js'
import { parseReaderOptions, splitArguments } from '../../../drivers/reader/options.js'
import { ascends, Ear, stateOf } from '../../device/event-formats/ear.js'
import { transpile } from '../../support/transpiled.js'

const base = { clock: systemClock, random: systemRandom, log: silentLogger }
let folder = ''
let standIn = ''
let runs = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qkd-gw-reader-'))
  standIn = await transpile('drivers/reader/emulator-program.ts', join(folder, 'program'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** A device whose reader program is the stand-in, with its environment; it ends with the test. */
function start(
  { onTestFinished }: TestContext,
  environment: Record<string, string> = {},
  options: Record<string, string> = {},
  stagger: StartProgram = startProgram,
): { device: Device; ear: Ear; runLog: () => Promise<string[]> } {
  runs += 1
  const log = join(folder, `runs-${runs}`)
  const env = {
    ...process.env,
    READER_EMULATOR_LOG: log,
    READER_EMULATOR_ONCE: join(folder, `once-${runs}`),
    ...environment,
  }
  const launch: StartProgram = (program) =>
    stagger({ ...program, command: process.execPath, args: [standIn, ...program.args], env })
  const device = createReaderDevice(
    {
      ...base,
      device: 'readevents7',
      side: 'alice',
      options: { 'restart-ms': '50', ...options },
      io: createNodeIo(base),
    },
    launch,
  )
  const ear = new Ear()
  device.subscribe((event) => ear.hear(event))
  const ending = new AbortController()
  const running = device.run(ending.signal)
  onTestFinished(async () => {
    ending.abort()
    await running
  })
  return { device, ear, runLog: async () => (await readFile(log, 'utf8')).trim().split('\n') }
}

// They wait more than they work: several at a time.
describe.concurrent("the user's reader program as a device", () => {
  it('is run once to flush stale events, then read for good', async (context) => {
    const { device, ear, runLog } = start(context)
    await ear.untilTags(5000)
    expect(await runLog()).toEqual(['-a1 -X -A -s -q1', '-a1 -X -A -s'])
    expect(device.state.value).toMatchObject({ state: 'producing', identity: 'readevents7 -a1 -X -A -s' })
    expect(ascends(ear.times)).toBe(true)
    expect(ear.gaps).toEqual([])
    expect(new Set(ear.patterns)).toEqual(new Set([1, 2, 4, 8]))
    expect(device.facts()).toMatchObject({ format: 'a1X', starts: 2, deaths: 0 })
  })

  for (const args of ['-a0', '-a1', '-a2 -A']) {
    it(`may write another form: ${args}`, async (context) => {
      const { ear } = start(context, {}, { args, 'first-run': 'off' })
      await ear.untilTags(2000)
      expect(ascends(ear.times)).toBe(true)
      expect(ear.discarded.size).toBe(0)
    })
  }

  for (const [fault, reason] of [
    ['exit', /ended with code 3/],
    ['cut', /ended with code 0/],
    ['complain', /readevents7 complains: Warning: DMA buffer overrun/],
    // Endless, and deaf to SIGTERM: killed, and little of it kept.
    ['flood', /readevents7 complains: Warning: DMA buffer overrun.{300,380}; starting it again$/],
  ] as const) {
    it(`is started again after a gap where it fails: ${fault}`, async (context) => {
      const { device, ear, runLog } = start(context, { READER_EMULATOR_FAULT: fault })
      const state = await stateOf(device.state, (now) => now.state === 'absent' && now.reason !== 'not started yet')
      expect(state).toMatchObject({ reason: expect.stringMatching(reason) as string })
      await ear.untilTags(1000)
      expect(ear.gaps.map((gap) => gap.after)).toEqual([1000])
      expect(ascends(ear.times)).toBe(true)
      expect(await runLog()).toHaveLength(4)
      expect(device.facts()).toMatchObject({ deaths: 1 })
    })
  }

  it('is started again where its output is of another form', async (context) => {
    const { device, ear } = start(context, { READER_EMULATOR_FAULT: 'garbage' }, { args: '-a2 -A', 'first-run': 'off' })
    const state = await stateOf(device.state, (now) => now.state === 'absent' && now.reason !== 'not started yet')
    expect(state).toMatchObject({
      reason: expect.stringMatching(/sends no a2 stream: line 1001: expected 16/) as string,
    })
    await ear.untilTags(1000)
  })

  it('that runs but says nothing is shown as silent', async (context) => {
    const { device, ear } = start(
      context,
      { READER_EMULATOR_FAULT: 'hang' },
      { 'first-run': 'off', 'silent-after-ms': '300' },
    )
    await ear.untilTags(1000)
    const state = await stateOf(device.state, (now) => now.state === 'silent')
    expect(state).toMatchObject({ reason: 'it runs, but nothing came for 300 ms' })
  })

  it('that is not there is waited for, and named', async (context) => {
    let there = false
    const { device, ear } = start(context, {}, { 'first-run': 'off' }, (program) =>
      startProgram(there ? program : { ...program, command: '/nowhere/readevents7' }),
    )
    const state = await stateOf(device.state, (now) => now.state === 'absent' && now.reason !== 'not started yet')
    expect(state).toMatchObject({ reason: expect.stringMatching(/readevents7 could not be started/) as string })
    there = true
    await ear.untilTags(100)
  })
})

describe('options of the reader', () => {
  it('tell the form of the output by the arguments', () => {
    const form = (args: string): string => parseReaderOptions('', { args }).format
    expect(['-a1 -X', '-a 1', '-a2 -f', '-s', '-a4'].map(form)).toEqual(['a1X', 'a1', 'a2', 'a0', 'a4'])
    expect(() => form('-a3')).toThrow(/form a3/)
    expect(parseReaderOptions('', {}).command).toBe('readevents7')
    expect(parseReaderOptions('/opt/re7', { 'first-run': 'off' })).toMatchObject({
      command: '/opt/re7',
      firstRun: undefined,
    })
  })

  it('split arguments at blanks, but not inside quotes', () => {
    expect(splitArguments(' -a1  -U "/dev/io boards/x" \'\' ')).toEqual(['-a1', '-U', '/dev/io boards/x', ''])
    expect(() => splitArguments('-U "open')).toThrow(/quote is not closed/)
  })
})
