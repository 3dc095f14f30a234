/** The SiteAgent at this end: registration kept true, and what it reports. */
import type { ReadonlyCell } from '../base/cell.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import type { HostPort } from '../base/host-port.js'

/** Which programs answer like this one. Detected from answers, never configured. */
export type SiteDialect = 'cpp' | 'java' | 'unknown'

export type RegistrationState =
  /** `waitingFor` says for what: a served device service, a proven tunnel. */
  | { state: 'waiting'; waitingFor: string }
  /** `anew`: we took the earlier registration away ourselves; the SiteAgent has forgotten nothing. */
  | { state: 'registering'; attempt: number; anew?: true }
  | { state: 'registered'; controlAddress: string; confirmed: boolean }
  | { state: 'failed'; reason: string; retryInMs: number }
  /** The SiteAgent holds something that we cannot repair. */
  | { state: 'needs-attention'; reason: string; remedy: string }
  | { state: 'unregistered' }

/** What a device says of itself when it registers. */
export interface DeviceRegistration {
  readonly id: string
  readonly side: 'alice' | 'bob' | 'any'
  readonly kind: string
  readonly bytesPerKey: number
  readonly switchName: string
  readonly switchPorts: readonly string[]
}

export interface Site extends SiteTotals {
  readonly address: HostPort
  readonly state: ReadonlyCell<RegistrationState>
  warnings(): readonly string[]
  facts(): Readonly<Record<string, string | number | boolean>>
  /** The control address to register, or undefined while it is not proven (with the reason). Changes re-register. */
  setControlAddress(address: HostPort | undefined, waitingFor: string): void
  /**
   * Unregisters until the SiteAgent has nothing left, and registers again: a complete restart of a static link, and the
   * way to start one whose keys stopped. Rejects with E_SITE_REFUSED at a Java SiteAgent and with what went wrong.
   */
  registerAnew(): Promise<void>
  /** Keeps the registration true until `signal` aborts; then unregisters, within `unregisterTimeoutMs` of its options. */
  run(signal: AbortSignal): Promise<void>
}
