import { untilState, type ReadonlyCell } from '../../../src/base/cell.js'
import { systemClock } from '../../../src/base/clock.js'
import { parseHostPort } from '../../../src/base/host-port.js'
import { systemRandom } from '../../../src/base/random.js'
import { silentLogger } from '../../../src/observe/log.js'
import type { RegistrationState, Site } from '../../../src/site/contract.js'
import { createSite, type SiteOptions } from '../../../src/site/site.js'

export const registration = {
  id: 'A_B_A',
  side: 'alice',
  kind: 'qix',
  bytesPerKey: 32,
  switchName: '',
  switchPorts: [],
} as const

export interface RunningSite {
  readonly site: Site
  /** How `run` ended: undefined, or what it rejected with. */
  readonly ended: Promise<unknown>
  stop(): Promise<void>
}

/** A site that runs at once, with pauses short enough for tests. */
export function runSite(address: string, options: Partial<SiteOptions> = {}): RunningSite {
  const site = createSite({
    address: parseHostPort(address, 'test'),
    registration,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    pollMs: 100,
    callTimeoutMs: 500,
    retryFirstMs: 20,
    retryMaxMs: 100,
    ...options,
  })
  const controller = new AbortController()
  const ended = site.run(controller.signal).then(
    () => undefined,
    (error: unknown) => error,
  )
  const stop = async (): Promise<void> => {
    controller.abort()
    await ended
  }
  return { site, ended, stop }
}

export function untilRegistration<S extends RegistrationState['state']>(
  cell: ReadonlyCell<RegistrationState>,
  name: S,
): Promise<Extract<RegistrationState, { state: S }>> {
  return untilState(
    cell,
    (state): state is Extract<RegistrationState, { state: S }> => state.state === name,
    AbortSignal.timeout(15_000),
  )
}
