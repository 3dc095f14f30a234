/** What this end knows of both SiteAgents: how far each has come, when it was heard of last, and how far apart they were. */
import type { Clock } from '../base/clock.js'

export interface SiteFigures {
  /** The SiteAgent's own total; undefined where it tells none or none was told yet. */
  readonly total: bigint | undefined
  /** Unix ms at which it was last known to have taken a batch in. */
  readonly confirmedMs: number | undefined
}

export interface SitesFigures {
  readonly here: SiteFigures
  readonly there: SiteFigures
  /** Time between the taking in of the last batch at the two sites, ms; half the round trip between them is reckoned in. */
  readonly skewMs: number | undefined
  /** The greatest of the last batches. */
  readonly skewMaxMs: number | undefined
}

/** Batches whose skew is remembered. */
const REMEMBERED = 100

const nothing: SiteFigures = { total: undefined, confirmedMs: undefined }

export class SitesAccount {
  #here = nothing
  #there = nothing
  /** Taken in at one site and not yet at the other, by serial: monotonic ms. One or two at most in good order. */
  readonly #openHere = new Map<number, number>()
  readonly #openThere = new Map<number, number>()
  readonly #skewsMs: number[] = []
  #lastHereMs: number | undefined

  constructor(
    private readonly clock: Pick<Clock, 'nowMs' | 'monotonicMs'>,
    /** Between the two gateways, ms; undefined while it was not measured. */
    private readonly roundTripMs: () => number | undefined,
  ) {}

  /** Monotonic ms of the last batch taken in here. */
  get lastHereMs(): number | undefined {
    return this.#lastHereMs
  }

  figures(): SitesFigures {
    const skewMs = this.#skewsMs.at(-1)
    const skewMaxMs = skewMs === undefined ? undefined : Math.max(...this.#skewsMs)
    return { here: this.#here, there: this.#there, skewMs, skewMaxMs }
  }

  /** What a total says without a batch: at the start, from the journal or the other side's greeting. */
  know(site: 'here' | 'there', total: bigint | undefined): void {
    if (total === undefined) return
    if (site === 'here') this.#here = { ...this.#here, total }
    else this.#there = { ...this.#there, total }
  }

  takenInHere(serial: number, total: bigint | undefined): void {
    this.#here = { total, confirmedMs: this.clock.nowMs() }
    const nowMs = this.clock.monotonicMs()
    this.#lastHereMs = nowMs
    const toldMs = this.#openThere.get(serial)
    if (toldMs === undefined) note(this.#openHere, serial, nowMs)
    else {
      this.#openThere.delete(serial)
      // It was there half a round trip before we heard of it.
      this.#skew(nowMs - toldMs + this.#oneWayMs())
    }
  }

  takenInThere(serial: number, total: bigint | undefined): void {
    this.#there = { total, confirmedMs: this.clock.nowMs() }
    const nowMs = this.clock.monotonicMs()
    const takenMs = this.#openHere.get(serial)
    if (takenMs === undefined) note(this.#openThere, serial, nowMs)
    else {
      this.#openHere.delete(serial)
      this.#skew(nowMs - takenMs - this.#oneWayMs())
    }
  }

  /** Batches that were under way when the two lost sight of each other tell nothing of the skew. */
  disconnected(): void {
    this.#openHere.clear()
    this.#openThere.clear()
  }

  #oneWayMs(): number {
    return (this.roundTripMs() ?? 0) / 2
  }

  #skew(ms: number): void {
    this.#skewsMs.push(Math.max(0, ms))
    if (this.#skewsMs.length > REMEMBERED) this.#skewsMs.shift()
  }
}

/** Keeps the youngest few: what never comes at the other site must not pile up. */
function note(open: Map<number, number>, serial: number, atMs: number): void {
  open.set(serial, atMs)
  const [oldest] = open.keys()
  if (open.size > 8 && oldest !== undefined) open.delete(oldest)
}
