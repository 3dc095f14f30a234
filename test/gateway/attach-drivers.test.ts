/** Every emulated device through the built command's whole `attach`: tunnel, SiteAgent, real tty, faults. */
import { afterEach, describe, expect, it } from 'vitest'
import { serverStream, unary } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { IDetector } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { ITimeTagService } from '../../src/rpc/gen/cqp/remote/time_tags_pb.js'
import { DRIVER_CASES, type DriverCase, type EmulatedEnd, startEmulator } from '../drivers/support/every-driver.js'
import {
  closeLab,
  eventually,
  type GatewayProcess,
  onCleanup,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
} from './support/lab.js'

afterEach(closeLab)

const PATIENCE_MS = 60_000

interface AttachedDriver {
  readonly gateway: GatewayProcess
  readonly end: EmulatedEnd
  works(): Promise<void>
}

async function attachDriver(chosen: DriverCase): Promise<AttachedDriver> {
  const [ssh, agent, end] = await Promise.all([startEmbeddedSshd(), startSiteAgent('left'), startEmulator(chosen)])
  onCleanup(() => end.stop())
  const options = Object.entries({ ...chosen.driverOptions, ...end.usbOptions })
  const gateway = startGateway({
    device: end.path,
    driver: chosen.driver,
    side: chosen.side,
    ssh,
    siteAgent: agent.address,
    flags: options.flatMap(([name, value]) => ['--driver-option', `${name}=${value}`]),
  })
  // A source that nobody reads fills its pool and then says so now and then only: it is at work all the same.
  const good = ['identified', 'producing']
  const works = (): Promise<void> =>
    eventually(
      `${chosen.driver} works`,
      async () => good.includes((await gateway.status().catch(() => undefined))?.parts['device']?.state ?? ''),
      PATIENCE_MS,
    ).then(() => {})
  await gateway.untilPart('registration', 'registered')
  await works()
  return { gateway, end, works }
}

/** One of each kind of cable and of speaking; `QKDGW_ALL_DRIVERS=1` takes every driver. */
const chosenCases = DRIVER_CASES.filter(
  ({ driver }) => process.env['QKDGW_ALL_DRIVERS'] !== undefined || ['tdc1', 'quantis', 'counter-cc1'].includes(driver),
)

describe('attach', () => {
  it.each(chosenCases)(
    'serves $driver, which comes back after damage and after its cable was pulled, and leaves in order',
    async (chosen) => {
      const attached = await attachDriver(chosen)
      const { gateway, end } = attached
      const before = (await gateway.status()).parts
      await end.emulator.fault('corrupt', ['2'])
      await attached.works()
      const openings = Number(before['device']?.facts?.['openings'])
      await end.emulator.fault('unplug', ['500', 'now'])
      await eventually(
        'the device was opened again',
        async () => Number((await gateway.status()).parts['device']?.facts?.['openings']) > openings,
        PATIENCE_MS,
      )
      await attached.works()
      const after = (await gateway.status()).parts
      for (const part of ['server', 'registration']) {
        expect(after[part]?.sinceMs, part).toBe(before[part]?.sinceMs)
      }
      expect((await gateway.stop()).code).toBe(0)
    },
    180_000,
  )

  it.each(DRIVER_CASES.filter(({ driver }) => driver === 'tdc1' || driver === 'nox'))(
    'streams the time tags of $driver, and holds them back between StopDetecting and StartDetecting',
    async (chosen) => {
      const { gateway } = await attachDriver(chosen)
      const address = (await gateway.status()).parts['server']?.facts?.['address']
      if (typeof address !== 'string') throw new Error('the status names no address')
      const channel = await openChannel({ address, what: 'device' })
      onCleanup(() => channel.close())
      const deadline = { deadlineMs: PATIENCE_MS, signal: new AbortController().signal }
      const times: bigint[] = []
      for await (const { tags } of serverStream(channel.client, ITimeTagService.method.readTimeTags, {}, deadline)) {
        times.push(...tags.map(({ timePointPs }) => timePointPs))
        if (times.length > 2_000) break
      }
      expect(times.every((time, at) => at === 0 || time >= (times[at - 1] ?? 0n))).toBe(true)
      await unary(channel.client, IDetector.method.stopDetecting, {}, deadline)
      const still = (await gateway.status()).parts['device']
      expect(still?.state).not.toBe('absent')
      await unary(channel.client, IDetector.method.startDetecting, {}, deadline)
      for await (const { tags } of serverStream(channel.client, ITimeTagService.method.readTimeTags, {}, deadline)) {
        if (tags.length > 0) break
      }
    },
    180_000,
  )
})
