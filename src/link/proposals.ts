/** Batches between desk and wire: forming and proposing them on the left, preparing them on the right. */
import { wipe } from '../base/wipe.js'
import { epochBroken, type WantedBatch } from './agreement/delivery.js'
import type { AgreementState, StorePair } from './agreement/state.js'
import { presentStores } from './agreement/stores.js'
import type { Desk, PrepareResult } from './desk.js'
import { type LinkMessage, type PeerMessage, proposeMessage } from './messages.js'
import { type BatchOptions, keysPerMessage } from './options.js'
import { equalBytes, sacrificedKeys } from './verification.js'

/** Batches that a right side keeps at once; more than a correct left side ever proposes. */
const MAX_KEPT = 6
/** Keys of a batch whose total has to tell of one before it; more sizes than two or three open batches rule out. */
const PROBE_KEYS = 16

export type Formed =
  | { readonly count: number; readonly message: LinkMessage }
  /** When it is worth asking again without news, monotonic ms. */
  | { readonly retryAtMs: number | undefined }

export class Proposals {
  /** What the other side must answer a proposal with. */
  #expected: { readonly serial: number; readonly point: Uint8Array } | undefined

  constructor(
    private readonly desk: Desk,
    private readonly batch: BatchOptions,
  ) {}

  /** Left: a batch of what both hold, with its tag. */
  form(wanted: WantedBatch, stores: StorePair, nowMs: number): Formed {
    const { batch, desk } = this
    const most = { full: batch.maxKeys, small: batch.maxInferredKeys, probe: PROBE_KEYS }
    const maxKeys = keysPerMessage(desk.keyBytes, most[wanted.size])
    const formed = desk.form({
      serial: wanted.serial,
      maxKeys,
      minKeys: Math.min(batch.minKeys, maxKeys),
      maxWaitMs: batch.maxWaitMs,
      avoidCounts: wanted.avoidCounts,
      nowMs,
    })
    if ('retryAtMs' in formed) return formed
    const { proposal } = formed
    const { sacrificedIds, ids } = proposal.batch
    const all = new BigUint64Array(sacrificedIds.length + ids.length)
    all.set(sacrificedIds)
    all.set(ids, sacrificedIds.length)
    this.forget()
    this.#expected = { serial: wanted.serial, point: proposal.point }
    const { tag } = proposal
    const message = proposeMessage({
      ...{ serial: wanted.serial, ids: all, sacrificed: sacrificedIds.length },
      ...{ tag, stores },
    })
    return { count: ids.length, message }
  }

  /** Left: whether an answer is that of somebody who holds our keys. Only the first answer counts. */
  isGenuine(serial: number, point: Uint8Array): boolean {
    const expected = this.#expected
    const genuine = expected?.serial === serial && equalBytes(expected.point, point)
    this.forget()
    return genuine
  }

  forget(): void {
    wipe(this.#expected?.point)
    this.#expected = undefined
  }

  /** Right: how a proposed batch compares with our keys, or what is wrong with the proposal. */
  prepare(state: AgreementState, message: PeerMessage & { readonly type: 'propose' }): PrepareResult | string {
    const { serial, ids, sacrificed, tag, stores } = message
    const { desk, batch } = this
    if (state.role !== 'right') return 'Propose: only the left side proposes'
    if (state.stopped !== undefined) return state.stopped
    if (serial < state.nextSerial) return 'Propose.serial: was used before'
    if (sacrificed !== sacrificedKeys(desk.keyBytes)) return 'Propose.sacrificed: gives up another number of keys'
    if (ids.length - sacrificed > keysPerMessage(desk.keyBytes, batch.maxKeys))
      return 'Propose.ids: too many for a batch'
    if (state.kept.length >= MAX_KEPT) return 'Propose: too many batches are under way'
    const present = presentStores(state)
    const meant = present.mine === stores.mine && present.theirs === stores.theirs && !epochBroken(state)
    if (!meant) return { outcome: 'missing' }
    return desk.prepare(serial, ids, sacrificed, tag)
  }
}
