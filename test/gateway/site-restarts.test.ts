import { describe, expect, it } from 'vitest'
import { StateCell } from '../../src/base/cell.js'
import { systemClock } from '../../src/base/clock.js'
import { followSiteRestarts } from '../../src/gateway/site-restarts.js'
import type { RegistrationState } from '../../src/site/contract.js'

const address = '127.0.0.1:9000'
const registered: RegistrationState = { state: 'registered', controlAddress: address, confirmed: true }
const registering: RegistrationState = { state: 'registering', attempt: 1 }

function restartsSeen(
  states: readonly RegistrationState[],
  { reporting = true, wanted = address }: { reporting?: boolean; wanted?: string } = {},
): number {
  const state = new StateCell<RegistrationState>({ state: 'waiting', waitingFor: 'a test' }, systemClock)
  let restarts = 0
  followSiteRestarts(
    { state, reporting: () => reporting },
    () => wanted,
    () => (restarts += 1),
  )
  for (const next of states) state.set(next)
  return restarts
}

describe('a restart of the SiteAgent', () => {
  it('is seen when the registration is gone and the reports broke', () => {
    expect(restartsSeen([registering, registered, registering, registered], { reporting: false })).toBe(1)
  })

  it('is seen when the SiteAgent did not answer before the registration was gone', () => {
    const unconfirmed: RegistrationState = { ...registered, confirmed: false }
    const failed: RegistrationState = { state: 'failed', reason: 'refused', retryInMs: 100 }
    expect(restartsSeen([registered, unconfirmed, failed, registering, registered])).toBe(1)
  })

  it('is not seen in the first registration', () => {
    expect(restartsSeen([registering, registered], { reporting: false })).toBe(0)
  })

  it('is not seen when somebody took the registration away', () => {
    expect(restartsSeen([registered, registering, registered])).toBe(0)
  })

  it('is not seen when we took the registration away ourselves to make it anew, however that goes', () => {
    const unconfirmed: RegistrationState = { ...registered, confirmed: false }
    const anew: RegistrationState = { state: 'registering', attempt: 1, anew: true }
    const failed: RegistrationState = { state: 'failed', reason: 'refused', retryInMs: 100 }
    expect(restartsSeen([registered, unconfirmed, anew, failed, anew, registered], { reporting: false })).toBe(0)
  })

  it('is not seen when another control address is registered', () => {
    expect(restartsSeen([registered, registering, registered], { reporting: false, wanted: '127.0.0.1:9001' })).toBe(0)
  })
})
