/** The metrics of one gateway over HTTP: beside the chain, never in its way. */
import { createBackoff } from '../base/backoff.js'
import { sleep } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'
import type { Logger } from '../observe/log.js'
import { serveMetrics, type MetricsServer } from '../observe/metrics-server.js'
import { isLoopback } from '../rpc/access.js'
import type { Config } from './config/schema.js'
import type { HostProcess } from './host.js'
import { createMetrics, type MetricsInput } from './metrics.js'

/** The customary port of a program's own metrics. */
export const DEFAULT_METRICS_LISTEN = '127.0.0.1:9464'

/** Another gateway on this machine may hold the port; it may end one day. */
const retryFirstMs = 5_000
const retryMaxMs = 300_000

export interface GatewayMetrics {
  /** Where they are, or why they are not; for the status. */
  state(): string
  /** Where they can be read by more than this machine, a sentence that says so. */
  warnings(): readonly string[]
  /** Serves until `signal` aborts. Rejects with E_CONFIG where the address can never be listened at. */
  run(signal: AbortSignal): Promise<void>
}

/** Throws E_CONFIG or E_USAGE for an address that is none. Undefined: off. */
export function metricsAddress(config: Config): HostPort | undefined {
  const listen = config.metrics?.listen ?? DEFAULT_METRICS_LISTEN
  return listen === 'off' ? undefined : parseHostPort(listen, '--metrics')
}

export function composeMetrics(
  config: Config,
  look: () => MetricsInput,
  { clock, random }: Pick<HostProcess, 'clock' | 'random'>,
  log: Logger,
): GatewayMetrics {
  const address = metricsAddress(config)
  let state = address === undefined ? 'off' : 'not served yet'

  const bind = async (at: HostPort, signal: AbortSignal, page: Page): Promise<MetricsServer | undefined> => {
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs }, random)
    let said = ''
    while (!signal.aborted) {
      try {
        return await serveMetrics(at, page, (error) => log.warn({ err: error }, 'metrics: a request failed'))
      } catch (error) {
        if (!(error instanceof GatewayError) || error.code !== 'E_ADDRESS_IN_USE') throw error
        state = messageOf(error)
        const pauseMs = backoff.nextMs()
        // What was not asked for by name is no fault if it is missing: two gateways on one machine are usual.
        const level = config.metrics?.listen === undefined ? 'info' : 'warn'
        if (state !== said) log[level]({ pauseMs }, `${state}; tried again now and then; ${error.remedy ?? ''}`)
        said = state
        await sleep(clock, pauseMs, signal).catch(() => {})
      }
    }
    return undefined
  }

  return {
    state: () => state,
    warnings: () =>
      address === undefined || address.host === 'localhost' || isLoopback(address.host)
        ? []
        : [`metrics at ${formatHostPort(address)}: whoever reaches that address reads them, without TLS (--metrics)`],
    async run(signal) {
      if (address === undefined) return
      const metrics = createMetrics(look)
      const server = await bind(address, signal, () => metrics.page())
      if (server === undefined) return
      const where = formatHostPort(server.address)
      state = where
      log.info({ address: where }, `metrics at http://${where}/metrics`)
      await new Promise<void>((resolve) => {
        if (signal.aborted) return resolve()
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
      state = 'closed'
      await server.close()
      metrics.close()
    },
  }
}

type Page = Parameters<typeof serveMetrics>[1]
