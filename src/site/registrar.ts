/**
 * Keeps one registration true. `GetSiteDetails` decides what is so, never the answer of `RegisterDevice`: a Java
 * SiteAgent gives none, a restarted one forgets, and a slow one answers after we have stopped waiting.
 */
import { status } from '@grpc/grpc-js'
import { StateCell } from '../base/cell.js'
import { createBackoff } from '../base/backoff.js'
import { sleep, withDeadline, type Clock } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import { controlDetails } from '../rpc/details.js'
import { ISiteAgent, type Site as SiteDetails } from '../rpc/gen/cqp/remote/site_pb.js'
import type { ControlDetails } from '../rpc/gen/cqp/remote/device_pb.js'
import type { DeviceRegistration, RegistrationState, SiteDialect } from './contract.js'
import { javaIdProblem } from './device-id.js'
import { detectDialect } from './dialect.js'
import { planRegistration, type RegisteredEntry, type RegistrationPlan } from './registration-plan.js'
import { statusBehind, type SiteConnection } from './site-connection.js'

export interface RegistrarOptions {
  readonly connection: SiteConnection
  readonly registration: DeviceRegistration
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly pollMs: number
  readonly callTimeoutMs: number
  readonly registerTimeoutMs: number
  readonly unregisterTimeoutMs: number
  readonly retryFirstMs: number
  readonly retryMaxMs: number
  /** Told after each call: whether the SiteAgent answered. */
  readonly onAnswer: (answered: boolean) => void
}

/** How often `GetSiteDetails` is asked while `RegisterDevice` has not answered. */
const lookWhileRegisteringMs = 250

export class Registrar {
  readonly state: StateCell<RegistrationState>
  #dialect: SiteDialect = 'unknown'
  #wanted: HostPort | undefined
  #waitingFor = 'a control address'
  /** Ends the turn, whatever it is at. */
  #wake: () => void = () => {}
  /** Ends the pause between two turns. */
  #wakeFromPause: () => void = () => {}
  /** Who waits for the registration to be made anew. */
  #anew: { resolve: () => void; reject: (reason: unknown) => void }[] = []
  #everRegistered = false
  /** We took it away to make it anew, and it does not stand again yet. */
  #takenAway = false
  #failures = 0
  #attempt = 0
  #spare = 0
  #siteUrl = ''
  #lastError = ''

  constructor(private readonly options: RegistrarOptions) {
    this.state = new StateCell<RegistrationState>({ state: 'waiting', waitingFor: this.#waitingFor }, options.clock)
  }

  get dialect(): SiteDialect {
    return this.#dialect
  }

  get siteUrl(): string {
    return this.#siteUrl
  }

  /** Further entries of our id behind the one that is used. */
  get spareEntries(): number {
    return this.#spare
  }

  get lastError(): string {
    return this.#lastError
  }

  setControlAddress(address: HostPort | undefined, waitingFor: string): void {
    const same =
      address?.host === this.#wanted?.host && address?.port === this.#wanted?.port && waitingFor === this.#waitingFor
    if (same) return
    this.#wanted = address
    this.#waitingFor = waitingFor
    this.#wake()
  }

  /** Asks the SiteAgent soon and not at the next turn; what is under way is left alone. */
  kick(): void {
    this.#wakeFromPause()
  }

  /**
   * Takes the registration away and makes it anew, which is how a static link of C++ sites is started again. Resolves
   * when the SiteAgent shows it; rejects with why it could not, the next turns go on all the same. E_SITE_REFUSED at a
   * Java SiteAgent, which forgets nothing.
   */
  registerAnew(): Promise<void> {
    if (this.#dialect === 'java') {
      return Promise.reject(new GatewayError('E_SITE_REFUSED', 'a Java SiteAgent forgets no registration'))
    }
    return new Promise((resolve, reject) => {
      this.#anew.push({ resolve, reject })
      this.#wakeFromPause()
    })
  }

  /** Until `signal` aborts. Rejects with E_SITE_ID alone. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#turns(signal)
    } finally {
      const stopped = new GatewayError('E_CANCELLED', 'registering anew: stopped')
      for (const waiting of this.#anew.splice(0)) waiting.reject(stopped)
    }
  }

  async #turns(signal: AbortSignal): Promise<void> {
    const { clock, random, log, retryFirstMs, retryMaxMs, pollMs } = this.options
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs }, random)
    while (!signal.aborted) {
      const wanted = this.#wanted
      const woken = new AbortController()
      this.#wake = () => woken.abort()
      const turn = AbortSignal.any([signal, woken.signal])
      if (wanted === undefined) {
        this.#set({ state: 'waiting', waitingFor: this.#waitingFor })
        await sleep(clock, 3_600_000, turn).catch(() => {})
        continue
      }
      // Who asks during this turn is served by the next one.
      const anew = this.#anew.splice(0)
      let pauseMs = pollMs * (0.9 + 0.2 * random.fraction())
      try {
        if (anew.length > 0) {
          this.#takenAway = true
          await this.#unregisterAll(turn)
        }
        await this.#makeTrue(wanted, turn)
        for (const waiting of anew) waiting.resolve()
        backoff.reset()
        this.#failures = 0
        this.#lastError = ''
        if (this.#anew.length > 0) continue
      } catch (error) {
        for (const waiting of anew) waiting.reject(error)
        if (error instanceof GatewayError && error.code === 'E_SITE_ID') throw error
        if (turn.aborted) continue
        pauseMs = backoff.nextMs()
        this.#failed(error, pauseMs)
        log.warn({ reason: messageOf(error), retryInMs: pauseMs }, 'the registration could not be checked')
      }
      const pause = new AbortController()
      this.#wakeFromPause = () => pause.abort()
      await sleep(clock, pauseMs, AbortSignal.any([turn, pause.signal])).catch(() => {})
    }
  }

  /** Takes the registration back, within `unregisterTimeoutMs`; false where the SiteAgent keeps it. */
  async unregister(): Promise<boolean> {
    const { clock, unregisterTimeoutMs } = this.options
    if (!this.#everRegistered) return true
    // A Java SiteAgent removes nothing and does not answer.
    if (this.#dialect === 'java') return false
    try {
      await withDeadline(clock, unregisterTimeoutMs, 'unregistering', (signal) => this.#unregisterAll(signal))
      this.#set({ state: 'unregistered' })
      return true
    } catch (error) {
      this.#lastError = messageOf(error)
      return false
    }
  }

  async #makeTrue(address: HostPort, signal: AbortSignal): Promise<void> {
    const { registration, connection } = this.options
    let details = await this.#details(signal)
    if (this.#dialect === 'unknown' || this.#failures > 0) {
      this.#dialect = await detectDialect(connection, this.options.callTimeoutMs, signal)
    }
    const message = controlDetails({
      ...registration,
      controlAddress: formatHostPort(address),
      siteAgentAddress: formatHostPort(connection.address),
    })
    const wanted = entryOf(message)
    for (let round = 0; round < 3; round += 1) {
      this.#refuseForJava(address)
      const plan = planRegistration(details.devices.map(entryOf), wanted, this.#dialect)
      if (this.#settle(plan, wanted)) return
      this.#attempt += 1
      this.#set({ state: 'registering', attempt: this.#attempt, ...(this.#takenAway ? { anew: true } : {}) })
      if (plan.plan === 'replace') await this.#replace(plan.shown, signal)
      // An entry that could not be taken away shows the dialect: look again before anything is added.
      if (plan.plan !== 'replace' || this.#dialect !== 'java') await this.#register(message, wanted, signal)
      details = await this.#details(signal)
    }
    const plan = planRegistration(details.devices.map(entryOf), wanted, this.#dialect)
    if (!this.#settle(plan, wanted)) {
      throw new GatewayError(
        'E_SITE_REFUSED',
        `the SiteAgent ${formatHostPort(connection.address)} does not show device ${wanted.id} as it was registered`,
        { remedy: 'look at `qkd-gw site ADDRESS details`' },
      )
    }
  }

  /** True where nothing is left to do. */
  #settle(plan: RegistrationPlan, wanted: RegisteredEntry): boolean {
    if (plan.plan === 'leave') {
      this.#spare = plan.spare
      this.#attempt = 0
      this.#everRegistered = true
      this.#takenAway = false
      this.#set({ state: 'registered', controlAddress: wanted.field2, confirmed: true })
      return true
    }
    if (plan.plan !== 'cannot-repair' || !plan.present) return false
    this.#everRegistered = true
    const site = formatHostPort(this.options.connection.address)
    this.#set({
      state: 'needs-attention',
      reason: `the SiteAgent ${site} also holds an earlier registration of ${wanted.id} (${plan.shown}), which it cannot forget and may use`,
      remedy: `restart that SiteAgent; this gateway then registers ${wanted.field2} by itself`,
    })
    return true
  }

  #refuseForJava(address: HostPort): void {
    if (this.#dialect !== 'java') return
    const site = formatHostPort(this.options.connection.address)
    const problem = javaIdProblem(this.options.registration.id)
    if (problem !== undefined) {
      throw new GatewayError(
        'E_SITE_ID',
        `the SiteAgent ${site} is OpenQKDNetwork's, which cannot use this: ${problem}`,
        {
          remedy: 'set --id to FIRST_SECOND_OWN, the same two site names at both ends, for example A_B_A and A_B_B',
          details: { id: this.options.registration.id },
        },
      )
    }
    if (address.host.includes(':')) {
      throw new GatewayError(
        'E_SITE_REFUSED',
        `the SiteAgent ${site} splits control addresses at ":", so ${formatHostPort(address)} cannot be used there`,
        { remedy: 'give a name or an IPv4 address with --control-address' },
      )
    }
  }

  async #details(signal: AbortSignal): Promise<SiteDetails> {
    const { connection, callTimeoutMs, onAnswer } = this.options
    try {
      const details = await connection.call(ISiteAgent.method.getSiteDetails, {}, callTimeoutMs, signal)
      this.#siteUrl = details.url
      onAnswer(true)
      return details
    } catch (error) {
      if (!signal.aborted) {
        onAnswer(false)
        // A connection on which nothing comes back looks healthy to TCP: begin anew.
        if (codeOf(error) === 'E_DEADLINE') connection.renew()
      }
      throw error
    }
  }

  /** Ends when the SiteAgent answered, or shows the registration, or the deadline passed. */
  async #register(message: ControlDetails, wanted: RegisteredEntry, signal: AbortSignal): Promise<void> {
    const { connection, registerTimeoutMs, log } = this.options
    const done = new AbortController()
    const answered = connection.call(ISiteAgent.method.registerDevice, message, registerTimeoutMs, signal).then(() => {
      // Java's never answers.
      if (this.#dialect === 'unknown') this.#dialect = 'cpp'
    })
    // It may go on unanswered after the SiteAgent has shown the registration.
    answered.catch(() => {})
    const shown = this.#untilShown(wanted, AbortSignal.any([signal, done.signal]))
    try {
      await Promise.race([answered, shown])
    } catch (error) {
      // No answer proves nothing: what the SiteAgent shows decides.
      if (codeOf(error) !== 'E_DEADLINE') throw error
      log.debug({ reason: messageOf(error) }, 'RegisterDevice was not answered')
    } finally {
      done.abort()
    }
  }

  /** Resolves when the SiteAgent shows the entry; never rejects and, once stopped, never resolves. */
  #untilShown(wanted: RegisteredEntry, signal: AbortSignal): Promise<void> {
    const { connection, callTimeoutMs, clock } = this.options
    return new Promise((resolve) => {
      const look = async (): Promise<void> => {
        while (!signal.aborted) {
          await sleep(clock, lookWhileRegisteringMs, signal)
          const details = await connection.call(ISiteAgent.method.getSiteDetails, {}, callTimeoutMs, signal)
          const entries = details.devices.map(entryOf)
          if (shows(planRegistration(entries, wanted, this.#dialect))) return resolve()
        }
      }
      look().catch(() => {})
    })
  }

  async #replace(shown: string, signal: AbortSignal): Promise<void> {
    this.options.log.info({ shown }, 'the SiteAgent holds an earlier registration of this device: taking it away first')
    try {
      await this.#unregisterAll(signal)
    } catch (error) {
      if (codeOf(error) !== 'E_DEADLINE') throw error
      // UnregisterDevice without an answer: a SiteAgent that cannot forget.
      if (this.#dialect === 'unknown') this.#dialect = 'java'
      else throw error
    }
  }

  /** One entry a call, until the SiteAgent has none. */
  async #unregisterAll(signal: AbortSignal): Promise<void> {
    const { connection, callTimeoutMs, registration } = this.options
    for (let entries = 0; entries < 10_000; entries += 1) {
      try {
        await connection.call(ISiteAgent.method.unregisterDevice, { id: registration.id }, callTimeoutMs, signal)
      } catch (error) {
        if (statusBehind(error) === status.NOT_FOUND) return
        throw error
      }
    }
  }

  #failed(error: unknown, retryInMs: number): void {
    this.#failures += 1
    this.#lastError = messageOf(error)
    const present = this.state.value
    // One silent poll is no news; the registration most likely still stands.
    if (this.#failures === 1 && present.state === 'registered') this.#set({ ...present, confirmed: false })
    else this.#set({ state: 'failed', reason: this.#lastError, retryInMs })
  }

  #set(next: RegistrationState): void {
    if (JSON.stringify(next) !== JSON.stringify(this.state.value)) this.state.set(next)
  }
}

/** Whether our entry is among those shown. */
function shows(plan: RegistrationPlan): boolean {
  return plan.plan === 'leave' || (plan.plan === 'cannot-repair' && plan.present)
}

function entryOf(details: ControlDetails): RegisteredEntry {
  const config = details.config
  return {
    id: config?.id ?? '',
    side: config?.side ?? 0,
    kind: config?.kind ?? '',
    bytesPerKey: config?.bytesPerKey ?? 0,
    switchName: config?.switchName ?? '',
    switchPorts: config?.switchPort ?? [],
    field2: details.bindAddress,
    field3: details.controlAddress,
    field4: details.siteAgentAddress,
  }
}
