/** The SiteAgent at this end of the link: the registration kept true, its reports followed, and what to say about it. */
import type { Unsubscribe } from '../base/cell.js'
import type { Clock } from '../base/clock.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import { openChannel } from '../rpc/channel.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import type { DeviceRegistration, Site, SiteDialect } from './contract.js'
import { javaIdProblem } from './device-id.js'
import { Registrar } from './registrar.js'
import { openSiteConnection, type OpenSiteChannel } from './site-connection.js'
import { TotalsSubscription } from './totals.js'

export interface SiteOptions {
  readonly address: HostPort
  readonly registration: DeviceRegistration
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Opens a channel to `address`; default plain text from here. The gateway gives TLS or the way through the tunnel. */
  readonly openChannel?: OpenSiteChannel
  /** How often GetSiteDetails is asked, ± 10 %; default 5 s. */
  readonly pollMs?: number
  /** Deadline of an ordinary call; default 3 s. */
  readonly callTimeoutMs?: number
  /** Deadline of RegisterDevice, inside which a static link may be started; default 15 s. */
  readonly registerTimeoutMs?: number
  /** Bound of unregistering at the end; default 2 s. */
  readonly unregisterTimeoutMs?: number
  /** First pause after a failure; they grow. Default 500 ms. */
  readonly retryFirstMs?: number
  /** Longest pause; default twice `pollMs`. */
  readonly retryMaxMs?: number
}

/** Named defaults, milliseconds. */
export const SITE_DEFAULTS = {
  pollMs: 5_000,
  callTimeoutMs: 3_000,
  registerTimeoutMs: 15_000,
  unregisterTimeoutMs: 2_000,
  retryFirstMs: 500,
} as const

export function createSite(options: SiteOptions): Site {
  const { address, registration, clock, random, log } = options
  const given = { ...SITE_DEFAULTS, ...definedOnly(options) }
  const timing = { ...given, retryMaxMs: options.retryMaxMs ?? 2 * given.pollMs }
  const connection = openSiteConnection(
    address,
    options.openChannel ?? (() => openChannel({ address: formatHostPort(address), what: 'SiteAgent' })),
  )
  const totals: TotalsSubscription = new TotalsSubscription({
    connection,
    ask: async (signal) => {
      await connection.call(ISiteAgent.method.getSiteDetails, {}, timing.callTimeoutMs, signal)
    },
    clock,
    random,
    log,
    retryFirstMs: timing.retryFirstMs,
    retryMaxMs: timing.retryMaxMs,
    // A stream that breaks is the first sign of a SiteAgent that restarts.
    onBroken: () => registrar.kick(),
  })
  const registrar: Registrar = new Registrar({
    ...timing,
    connection,
    registration,
    clock,
    random,
    log,
    onAnswer: (answered) => (answered ? totals.answered() : totals.silent()),
  })
  const dialect = (): SiteDialect => registrar.dialect

  return {
    address,
    state: registrar.state,
    dialect,
    onTotal: (listener): Unsubscribe => totals.onTotal(listener),
    reporting: () => totals.reporting,
    setControlAddress: (controlAddress, waitingFor) => registrar.setControlAddress(controlAddress, waitingFor),
    registerAnew: () => registrar.registerAnew(),
    warnings() {
      const problem = dialect() === 'java' ? undefined : javaIdProblem(registration.id)
      return [
        ...(problem === undefined ? [] : [`${problem}: an OpenQKDNetwork (Java) SiteAgent could not use it`]),
        ...(registrar.spareEntries > 0
          ? [
              `the SiteAgent holds ${registrar.spareEntries} further registration(s) of ${registration.id}; the first is used`,
            ]
          : []),
      ]
    },
    facts: () => ({
      siteAgent: formatHostPort(address),
      dialect: dialect(),
      reporting: totals.reporting,
      ...(registrar.siteUrl === '' ? {} : { siteUrl: registrar.siteUrl }),
      ...(registrar.lastError === '' ? {} : { lastError: registrar.lastError }),
    }),
    async run(signal) {
      const stop = new AbortController()
      const ended = AbortSignal.any([signal, stop.signal])
      const following = totals.run(ended)
      try {
        await registrar.run(ended)
        if (!(await registrar.unregister())) {
          log.warn({ siteAgent: formatHostPort(address) }, 'the SiteAgent keeps the registration of this device')
        }
      } finally {
        stop.abort()
        await following
        await connection.close()
      }
    },
  }
}

type Timing = { -readonly [name in keyof typeof SITE_DEFAULTS]: number }

function definedOnly(options: SiteOptions): Partial<Timing> {
  const given: Partial<Timing> = {}
  for (const name of Object.keys(SITE_DEFAULTS) as (keyof Timing)[]) {
    const value = options[name]
    if (value !== undefined) given[name] = value
  }
  return given
}
