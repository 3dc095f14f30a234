/** What a device yields, handed on: keys to the link, figures to the statistics. */
import type { Clock } from '../base/clock.js'
import { wipe } from '../base/wipe.js'
import type { Device, DeviceEvent, DriverDescriptor } from '../device/contract.js'
import { isPairDevice } from '../device/pair-contract.js'
import type { AgreedLink } from '../link/link.js'
import type { Logger } from '../observe/log.js'
import type { Statistics, StatisticUnit } from '../observe/statistics.js'
import { createKeyRoute, type RoutedLink } from './key-route.js'
import { DeliveryRate, type DeliverySample } from './kms-forecast.js'

const units: Readonly<Record<Extract<DeviceEvent, { type: 'figure' }>['unit'], StatisticUnit>> = {
  count: 'count',
  percent: 'percentage',
  ms: 'milliseconds',
  hz: 'hz',
  dB: 'decibels',
}

/** How often it is told what a device withheld; status has the counts. */
const TELL_INTERVAL_MS = 10_000

/** Counts by reason of what a driver withheld. */
export interface DeviceFeed {
  discarded(): Readonly<Record<string, number>>
  /** Keys a second that go to the SiteAgent, over the last five minutes. */
  keysPerSecond(): number
  /** Keys a second given up to verify the others, over the same time. */
  sacrificedPerSecond(): number
  stop(): void
}

export function feedDevice(
  device: Device,
  link: RoutedLink & Pick<AgreedLink, 'counts' | 'deviceRenumbered'>,
  { bytesPerKey, yields }: Pick<DriverDescriptor, 'bytesPerKey' | 'yields'>,
  statistics: Statistics,
  log: Logger,
  clock: Pick<Clock, 'monotonicMs'>,
): DeviceFeed {
  const discarded: Record<string, number> = {}
  const what = yields === 'tags' ? 'detections' : 'keys'
  /** What was not told of yet: a device at a wrong rate loses something many times a second. */
  let untold: Record<string, number> = {}
  let toldAtMs = -Infinity
  const received = statistics.unsigned(['Key', 'Keys Received'], 'count')
  const route = createKeyRoute(link, isPairDevice(device))
  const rates = { delivered: new DeliveryRate(), sacrificed: new DeliveryRate() }
  const now = (of: keyof typeof rates): DeliverySample => ({
    atMs: clock.monotonicMs(),
    delivered: link.counts()[of],
  })
  let arrived = 0
  // Keys that come together are one update.
  const count = (): void => {
    received.update(BigInt(arrived))
    arrived = 0
    for (const of of ['delivered', 'sacrificed'] as const) {
      if (rates[of].isDue(clock.monotonicMs())) rates[of].note(now(of))
    }
  }
  const discard = (reason: string, count: number): void => {
    discarded[reason] = (discarded[reason] ?? 0) + count
  }
  const stop = device.subscribe((event) => {
    switch (event.type) {
      case 'key':
        if (event.key.length !== bytesPerKey) {
          wipe(event.key)
          discard('wrongLength', 1)
          return
        }
        if (arrived === 0) queueMicrotask(count)
        arrived += 1
        route.take(event.id, event.key)
        return
      case 'discarded': {
        discard(event.reason, event.count)
        untold[event.reason] = (untold[event.reason] ?? 0) + event.count
        if (clock.monotonicMs() - toldAtMs < TELL_INTERVAL_MS) return
        toldAtMs = clock.monotonicMs()
        log.info({ discarded: untold }, `the device withheld or lost ${what}`)
        untold = {}
        return
      }
      case 'renumbered':
        log.warn({ reason: event.reason }, 'the device numbers its keys anew')
        link.deviceRenumbered(event.reason)
        return
      case 'gap':
        log.warn({ reason: event.reason }, 'the stream of the device has a gap')
        return
      case 'figure':
        if (event.whole === true)
          statistics.unsigned(event.path, units[event.unit]).update(BigInt(Math.round(event.value)))
        else statistics.double(event.path, units[event.unit]).update(event.value)
        return
      case 'tags':
        // Detections make no key by themselves; services that stream them subscribe on their own.
        return
    }
  })
  return {
    discarded: () => discarded,
    keysPerSecond: () => rates.delivered.keysPerSecond(now('delivered')),
    sacrificedPerSecond: () => rates.sacrificed.keysPerSecond(now('sacrificed')),
    stop() {
      stop()
      route.stop()
    },
  }
}
