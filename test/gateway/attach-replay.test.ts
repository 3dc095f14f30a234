/** A recording as a device, through the built command's whole `attach`. */
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { createNodeIo } from '../../src/io/node-io.js'
import { silentLogger } from '../../src/observe/log.js'
import { serverStream } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ITimeTagService } from '../../src/rpc/gen/cqp/remote/time_tags_pb.js'
import { driver } from '../../drivers/replay/driver.js'
import { Ear, stateOf } from '../device/event-formats/ear.js'
import { closeLab, onCleanup, startEmbeddedSshd, startGateway, startSiteAgent } from './support/lab.js'

afterEach(closeLab)

const RECORDING = join(import.meta.dirname, '../fixtures/recordings-devices/simulated-pair/alice.Aa1X.ts')
const PATIENCE_MS = 60_000

/** Distances in time; a click at two inputs is two tags of one time. */
const steps = (times: readonly bigint[]): bigint[] =>
  times.flatMap((time, at) => (at === 0 || time === times[at - 1] ? [] : [time - (times[at - 1] ?? 0n)]))

/** Every detection's distance from the one before, as the driver alone reads the file. */
async function recordedSteps(): Promise<bigint[]> {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const device = driver.create({
    ...base,
    device: RECORDING,
    side: 'alice',
    options: { speed: 'full' },
    io: createNodeIo(base),
  })
  const ear = new Ear()
  device.subscribe((event) => ear.hear(event))
  const ending = new AbortController()
  const running = device.run(ending.signal)
  await stateOf(device.state, (now) => now.state === 'absent' && now.reason.endsWith('over'))
  ending.abort()
  await running
  return steps(ear.times)
}

describe('attach replay:FILE', () => {
  it.each(['recorded', '3'])(
    'streams the recording’s own time tags, at speed %s, and says that it is one',
    async (speed) => {
      const [ssh, agent] = await Promise.all([startEmbeddedSshd(), startSiteAgent('left')])
      const gateway = startGateway({
        device: `replay:${RECORDING}`,
        driver: 'replay',
        side: 'alice',
        ssh,
        siteAgent: agent.address,
        flags: ['--driver-option', `speed=${speed}`, '--driver-option', 'loop=on'],
      })
      await gateway.untilPart('registration', 'registered')
      const { parts } = await gateway.status()
      expect(parts['device']?.facts).toMatchObject({ format: 'a1X' })
      const address = parts['server']?.facts?.['address']
      if (typeof address !== 'string') throw new Error('the status names no address')
      const channel = await openChannel({ address, what: 'device' })
      onCleanup(() => channel.close())
      const deadline = { deadlineMs: PATIENCE_MS, signal: new AbortController().signal }
      const times: bigint[] = []
      for await (const { tags } of serverStream(channel.client, ITimeTagService.method.readTimeTags, {}, deadline)) {
        times.push(...tags.map(({ timePointPs }) => timePointPs))
        if (times.length >= 500) break
      }
      const recorded = await recordedSteps()
      // It may just have begun again: then it goes on where it ended.
      const twice = [...recorded, ...recorded].join(' ')
      expect(twice).toContain(steps(times).join(' '))
      expect((await gateway.stop()).code).toBe(0)
    },
    180_000,
  )
})
