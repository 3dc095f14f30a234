import pino from 'pino'
import { expect, it } from 'vitest'
import { StateCell } from '../../src/base/cell.js'
import type { Device, DeviceState } from '../../src/device/contract.js'
import { createEventHub } from '../../src/device/event-hub.js'
import { feedDevice } from '../../src/gateway/device-feed.js'
import type { SessionState } from '../../src/link/session-state.js'
import { silentLogger } from '../../src/observe/log.js'
import { createStatistics } from '../../src/observe/statistics.js'
import { ManualClock } from '../drivers/support/manual-clock.js'

it('what a device withholds many times a second is counted each time and told now and then, as what it is', async () => {
  const clock = new ManualClock()
  const hub = createEventHub(silentLogger)
  const device: Device = {
    state: new StateCell<DeviceState>({ state: 'opening' }, clock),
    facts: () => ({}),
    subscribe: (listener) => hub.subscribe(listener),
    run: async () => {},
  }
  const link = {
    session: new StateCell<SessionState>({ state: 'none', errorCode: 0, reason: '' }, clock),
    offerKey: () => {},
    deliverUnagreed: () => {},
    deviceRenumbered: () => {},
    counts: () => ({ received: 0n, delivered: 0n, held: 0n, sacrificed: 0n, dropped: {} }),
  }
  const lines: unknown[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const statistics = createStatistics(clock, () => {})
  const feed = feedDevice(device, link, { bytesPerKey: 0, yields: 'tags' }, statistics, log, clock)
  for (let i = 0; i < 100; i += 1) {
    hub.emit({ type: 'discarded', reason: 'invalid', count: 3 })
    await clock.advance(200)
  }
  expect(feed.discarded()).toEqual({ invalid: 300 })
  expect(lines).toMatchObject([
    { msg: 'the device withheld or lost detections', discarded: { invalid: 3 } },
    { msg: 'the device withheld or lost detections', discarded: { invalid: 150 } },
  ])
  feed.stop()
})
