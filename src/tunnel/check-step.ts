import { GatewayError, messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import type { EchoSelf } from './echo-self.js'
import type { TunnelLink } from './link.js'
import type { TunnelOptions, TunnelTimings } from './options.js'

/** What one step of the check came to. */
export interface CheckStep {
  name: string
  /** `doubtful`: it works, but something is worth knowing. */
  result: 'ok' | 'doubtful' | 'failed' | 'skipped'
  /** In plain words. */
  found: string
  remedy?: string
  facts?: Readonly<Record<string, string | number | boolean>>
}

/** A listener that the rest of the check looks at. */
export interface CheckSubject {
  readonly link: TunnelLink
  readonly listener: HostPort
  readonly controlAddress: HostPort
  readonly echo: EchoSelf
  readonly options: TunnelOptions
  readonly timings: TunnelTimings
  readonly signal: AbortSignal
}

export function skipped(name: string, why: string): CheckStep {
  return { name, result: 'skipped', found: why }
}

/** Runs one step; what it throws becomes a failed step with its remedy, except a stop. */
export async function toStep(name: string, work: () => Promise<Omit<CheckStep, 'name'>>): Promise<CheckStep> {
  try {
    return { name, ...(await work()) }
  } catch (error) {
    if (!(error instanceof GatewayError)) return { name, result: 'failed', found: messageOf(error) }
    if (error.code === 'E_CANCELLED') throw error
    return {
      name,
      result: 'failed',
      found: error.message,
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      facts: { ...error.details, code: error.code },
    }
  }
}
