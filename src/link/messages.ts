/**
 * The link service's messages as plain values. Reading checks every field: what cannot be is answered with the field's
 * name and changes nothing.
 */
import { create, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf'
import {
  type BatchRef as WireBatchRef,
  type Hello as WireHello,
  type IdRun as WireIdRun,
  LinkMessageSchema,
  Refused_Reason,
  SiteState_Confirmation,
  type SiteState as WireSiteState,
} from '../rpc/gen/qkdgw/link/v1/link_pb.js'
import type { AgreementMessage } from './agreement/events.js'
import type { BatchRef, Hello, SiteView, StorePair } from './agreement/state.js'
import { LINEAGE_BYTES, lineageProof } from './history-proof.js'
import { fromRuns, toRuns } from './id-runs.js'
import { POINT_BYTES, SACRIFICED_BYTES, TAG_BYTES } from './verification.js'

export type LinkMessage = MessageShape<typeof LinkMessageSchema>

/** Version of the link service that this gateway speaks. */
export const LINK_VERSION = 1

/** Most keys of one batch, sacrificed ones not counted. */
export const MAX_BATCH_KEYS = 10_000

/** Serials stay far below what a double holds exactly. */
const MAX_SERIAL = 2 ** 52

const MAX_TEXT = 1_000
/** Bytes of the name of a WaitForSession or of a key store. */
const MAX_NAME = 64

/** Who speaks: what must be equal at both ends before anything else is said. */
export interface Greeting {
  readonly version: number
  readonly kind: string
  readonly keyBytes: number
}

export type PeerMessage =
  /** `hello.lineage`: the proof of it, see `recognisedLineage`. */
  | { readonly type: 'hello'; readonly greeting: Greeting; readonly hello: Hello; readonly incarnation: Uint8Array }
  | { readonly type: 'announce'; readonly ids: BigUint64Array; readonly anew: boolean }
  | {
      readonly type: 'propose'
      readonly serial: number
      readonly ids: BigUint64Array
      readonly sacrificed: number
      readonly tag: Uint8Array
      /** As the receiver sees them. */
      readonly stores: StorePair
    }
  | { readonly type: 'verified'; readonly serial: number; readonly point: Uint8Array }
  | { readonly type: 'dropThrough'; readonly through: bigint }
  | { readonly type: 'ping'; readonly number: bigint }
  | { readonly type: 'pong'; readonly number: bigint }
  | { readonly type: 'bye'; readonly reason: string }
  | { readonly type: 'agreement'; readonly message: AgreementMessage }

/** A field that cannot be: names it and says why. */
export class MessageError extends Error {
  override readonly name = 'MessageError'
}

export function helloMessage(greeting: Greeting, hello: Hello, incarnation: Uint8Array): LinkMessage {
  return create(LinkMessageSchema, {
    body: {
      case: 'hello',
      value: {
        ...greeting,
        incarnation,
        lineage: lineageProof(hello.lineage, incarnation),
        freshLineage: fromHex(hello.freshLineage),
        settledSerial: BigInt(hello.settled),
        ahead: hello.ahead.map(wireRef),
        inDoubt: hello.inDoubt.map(wireRef),
        unsure: hello.unsure.map(wireRef),
        position: BigInt(hello.position),
        ...(hello.total === undefined ? {} : { total: hello.total }),
        ...(hello.divergedAt === undefined ? {} : { divergedAt: hello.divergedAt }),
        acceptsDivergence: hello.acceptsDivergence,
        nextSerial: BigInt(hello.nextSerial),
        ownStore: fromHex(hello.stores.mine),
        otherStore: fromHex(hello.stores.theirs),
        site: wireSite(hello.site),
      },
    },
  })
}

export function announceMessage(ids: BigUint64Array, anew: boolean): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'announce', value: { ids: toRuns(ids), anew } } })
}

export function proposeMessage(proposal: {
  readonly serial: number
  readonly ids: BigUint64Array
  readonly sacrificed: number
  readonly tag: Uint8Array
  readonly stores: StorePair
}): LinkMessage {
  const { serial, ids, sacrificed, tag, stores } = proposal
  const value = {
    ...{ serial: BigInt(serial), ids: toRuns(ids), sacrificed, tag },
    ownStore: fromHex(stores.mine),
    otherStore: fromHex(stores.theirs),
  }
  return create(LinkMessageSchema, { body: { case: 'propose', value } })
}

export function verifiedMessage(serial: number, point: Uint8Array): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'verified', value: { serial: BigInt(serial), point } } })
}

export function dropThroughMessage(through: bigint, reason: string): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'dropThrough', value: { through, reason } } })
}

export function pingMessage(number: bigint): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'ping', value: { number } } })
}

export function pongMessage(number: bigint): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'pong', value: { number } } })
}

export function byeMessage(reason: string): LinkMessage {
  return create(LinkMessageSchema, { body: { case: 'bye', value: { reason } } })
}

export function agreementMessage(message: AgreementMessage): LinkMessage {
  return create(LinkMessageSchema, { body: bodyOf(message) })
}

function bodyOf(message: AgreementMessage): NonNullable<MessageInitShape<typeof LinkMessageSchema>['body']> {
  switch (message.type) {
    case 'site':
      return { case: 'site', value: wireSite(message.site) }
    case 'refused': {
      const reason = message.reason === 'mismatch' ? Refused_Reason.MISMATCH : Refused_Reason.MISSING
      return { case: 'refused', value: { serial: BigInt(message.serial), reason } }
    }
    case 'takenIn': {
      const { serial, total, skipped } = message
      return {
        case: 'takenIn',
        value: { serial: BigInt(serial), skipped, ...(total === undefined ? {} : { total }) },
      }
    }
    case 'withdrawn':
      return { case: 'withdrawn', value: { serial: BigInt(message.serial), drop: message.drop } }
    case 'diverged': {
      const { firstDifferingKey, reason } = message
      return { case: 'diverged', value: { firstDifferingKey, reason } }
    }
    case 'acceptDivergence':
      return { case: 'acceptDivergence', value: {} }
    case 'beginAnew': {
      const { mine, theirs } = message.stores
      return { case: 'beginAnew', value: { ownStore: fromHex(mine), otherStore: fromHex(theirs) } }
    }
  }
}

/** Throws `MessageError`. `maxIds` bounds what one message may list. */
export function readMessage(wire: LinkMessage, maxIds: number): PeerMessage {
  const { body } = wire
  switch (body.case) {
    case 'hello':
      return readHello(body.value)
    case 'site':
      return { type: 'agreement', message: { type: 'site', site: readSite(body.value, 'SiteState') } }
    case 'announce':
      return { type: 'announce', ids: readIds(body.value.ids, 'Announce.ids', maxIds), anew: body.value.anew }
    case 'propose': {
      const { sacrificed, tag } = body.value
      const serial = readSerial(body.value.serial, 'Propose.serial')
      // Keys of one byte are the shortest. Before the ids, whose number it bounds.
      check(sacrificed >= 1 && sacrificed <= SACRIFICED_BYTES, 'Propose.sacrificed', 'is out of range')
      const ids = readIds(body.value.ids, 'Propose.ids', MAX_BATCH_KEYS + sacrificed)
      check(sacrificed < ids.length, 'Propose.sacrificed', 'leaves no keys')
      check(tag.length === TAG_BYTES, 'Propose.tag', `must have ${TAG_BYTES} bytes`)
      const stores = readStores(body.value, 'Propose')
      return { type: 'propose', serial, ids, sacrificed, tag, stores: { mine: stores.theirs, theirs: stores.mine } }
    }
    case 'verified': {
      const { point } = body.value
      check(point.length === POINT_BYTES, 'Verified.point', `must have ${POINT_BYTES} bytes`)
      return { type: 'verified', serial: readSerial(body.value.serial, 'Verified.serial'), point }
    }
    case 'refused': {
      const serial = readSerial(body.value.serial, 'Refused.serial')
      const { reason } = body.value
      check(reason === Refused_Reason.MISMATCH || reason === Refused_Reason.MISSING, 'Refused.reason', 'is unknown')
      const why = reason === Refused_Reason.MISMATCH ? 'mismatch' : 'missing'
      return { type: 'agreement', message: { type: 'refused', serial, reason: why } }
    }
    case 'takenIn': {
      const { total, skipped } = body.value
      const serial = readSerial(body.value.serial, 'TakenIn.serial')
      return { type: 'agreement', message: { type: 'takenIn', serial, total, skipped } }
    }
    case 'withdrawn': {
      const serial = readSerial(body.value.serial, 'Withdrawn.serial')
      return { type: 'agreement', message: { type: 'withdrawn', serial, drop: body.value.drop } }
    }
    case 'dropThrough':
      return { type: 'dropThrough', through: body.value.through }
    case 'diverged': {
      const { firstDifferingKey, reason } = body.value
      check(firstDifferingKey >= 1n, 'Diverged.first_differing_key', 'must be at least 1')
      return { type: 'agreement', message: { type: 'diverged', firstDifferingKey, reason: plainText(reason) } }
    }
    case 'acceptDivergence':
      return { type: 'agreement', message: { type: 'acceptDivergence' } }
    case 'beginAnew':
      return { type: 'agreement', message: { type: 'beginAnew', stores: readStores(body.value, 'BeginAnew') } }
    case 'ping':
      return { type: 'ping', number: body.value.number }
    case 'pong':
      return { type: 'pong', number: body.value.number }
    case 'bye':
      return { type: 'bye', reason: plainText(body.value.reason) }
    case undefined:
      throw new MessageError('LinkMessage.body: missing or unknown')
  }
}

function readHello(wire: WireHello): PeerMessage {
  check(wire.incarnation.length === 16, 'Hello.incarnation', 'must have 16 bytes')
  const { length } = wire.lineage
  check(length === LINEAGE_BYTES || length === 0, 'Hello.lineage', 'must have 16 bytes or none')
  check(wire.freshLineage.length === LINEAGE_BYTES, 'Hello.fresh_lineage', 'must have 16 bytes')
  check(wire.position <= BigInt(Number.MAX_SAFE_INTEGER), 'Hello.position', 'is too large')
  check(wire.settledSerial <= MAX_SERIAL, 'Hello.settled_serial', 'is too large')
  check(wire.divergedAt === undefined || wire.divergedAt >= 1n, 'Hello.diverged_at', 'must be at least 1')
  if (wire.site === undefined) throw new MessageError('Hello.site: missing')
  return {
    type: 'hello',
    greeting: { version: wire.version, kind: plainText(wire.kind), keyBytes: wire.keyBytes },
    incarnation: wire.incarnation,
    hello: {
      lineage: toHex(wire.lineage),
      freshLineage: toHex(wire.freshLineage),
      settled: Number(wire.settledSerial),
      ahead: readRefs(wire.ahead, 'Hello.ahead'),
      inDoubt: readRefs(wire.inDoubt, 'Hello.in_doubt'),
      unsure: readRefs(wire.unsure, 'Hello.unsure'),
      position: Number(wire.position),
      total: wire.total,
      divergedAt: wire.divergedAt,
      acceptsDivergence: wire.acceptsDivergence,
      nextSerial: readSerial(wire.nextSerial, 'Hello.next_serial'),
      stores: readStores(wire, 'Hello'),
      site: readSite(wire.site, 'Hello.site'),
    },
  }
}

/** As the sender sees them. */
function readStores(
  wire: { readonly ownStore: Uint8Array; readonly otherStore: Uint8Array },
  message: string,
): StorePair {
  check(wire.ownStore.length <= MAX_NAME, `${message}.own_store`, 'is too long')
  check(wire.otherStore.length <= MAX_NAME, `${message}.other_store`, 'is too long')
  return { mine: toHex(wire.ownStore), theirs: toHex(wire.otherStore) }
}

function readSite(wire: WireSiteState, field: string): SiteView {
  const { confirmation } = wire
  check(
    confirmation === SiteState_Confirmation.TOTAL || confirmation === SiteState_Confirmation.INFERRED,
    `${field}.confirmation`,
    'is unknown',
  )
  check(wire.stream.length <= MAX_NAME, `${field}.stream`, 'is too long')
  check(wire.store.length <= MAX_NAME, `${field}.store`, 'is too long')
  check(wire.epoch.length <= MAX_NAME, `${field}.epoch`, 'is too long')
  check(wire.sees.length <= MAX_NAME, `${field}.sees`, 'is too long')
  return {
    ready: wire.ready,
    stream: toHex(wire.stream),
    confirmation: confirmation === SiteState_Confirmation.TOTAL ? 'total' : 'inferred',
    restartsNumbering: wire.restartsNumbering,
    mayBeRenewed: wire.mayBeRenewed,
    store: toHex(wire.store),
    empty: wire.empty,
    epoch: toHex(wire.epoch),
    sees: toHex(wire.sees),
    reason: plainText(wire.reason),
  }
}

function wireSite(site: SiteView): {
  ready: boolean
  stream: Uint8Array<ArrayBuffer>
  confirmation: SiteState_Confirmation
  restartsNumbering: boolean
  mayBeRenewed: boolean
  store: Uint8Array<ArrayBuffer>
  empty: boolean
  epoch: Uint8Array<ArrayBuffer>
  sees: Uint8Array<ArrayBuffer>
  reason: string
} {
  return {
    ready: site.ready,
    stream: fromHex(site.stream),
    confirmation: site.confirmation === 'total' ? SiteState_Confirmation.TOTAL : SiteState_Confirmation.INFERRED,
    restartsNumbering: site.restartsNumbering,
    mayBeRenewed: site.mayBeRenewed,
    store: fromHex(site.store),
    empty: site.empty,
    epoch: fromHex(site.epoch),
    sees: fromHex(site.sees),
    reason: site.reason,
  }
}

/** Batches between two sites are few: see `MAX_DOUBTS`. */
const MAX_REFS = 16

function readRefs(wire: readonly WireBatchRef[], field: string): BatchRef[] {
  check(wire.length <= MAX_REFS, field, 'lists too many batches')
  let previous = 0
  return wire.map(({ serial, count }) => {
    const ref = { serial: readSerial(serial, `${field}.serial`), count }
    check(ref.serial > previous, `${field}.serial`, 'does not ascend')
    check(count >= 1 && count <= MAX_BATCH_KEYS, `${field}.count`, 'is out of range')
    previous = ref.serial
    return ref
  })
}

function wireRef({ serial, count }: BatchRef): { serial: bigint; count: number } {
  return { serial: BigInt(serial), count }
}

function readIds(wire: readonly WireIdRun[], field: string, maxIds: number): BigUint64Array {
  const ids = fromRuns(wire, maxIds)
  if (typeof ids === 'string') throw new MessageError(`${field}: ${ids}`)
  return ids
}

function readSerial(serial: bigint, field: string): number {
  check(serial >= 1n && serial <= BigInt(MAX_SERIAL), field, 'is out of range')
  return Number(serial)
}

function check(holds: boolean, field: string, reason: string): void {
  if (!holds) throw new MessageError(`${field}: ${reason}`)
}

/** A peer's text as it may stand in a log: bounded, printable. */
function plainText(text: string): string {
  return text.slice(0, MAX_TEXT).replace(/[^\P{C}]/gu, '?')
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}
