/**
 * Messages of the link service with any value in any field. Made from the descriptors of the service, so a field that is
 * new to the protocol is lied in as well.
 */
import { create, type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import fc from 'fast-check'
import type { LinkMessage } from '../../src/link/messages.js'
import { LinkMessageSchema } from '../../src/rpc/gen/qkdgw/link/v1/link_pb.js'

/** Stands for the n-th byte string that the other side has said: a liar who listens repeats stores, streams, sequences. */
class Echo {
  constructor(readonly nth: number) {}
}

type Drawn = unknown

/** A message to be, with `Echo`es in it. */
export interface Lie {
  readonly case: string | undefined
  readonly value: Drawn
}

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: 6n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(2n ** 47n, 2n ** 48n, 2n ** 52n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
)
const u32 = fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }))
const bytes = fc.oneof(
  { weight: 2, arbitrary: fc.nat({ max: 30 }).map((nth) => new Echo(nth)) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(0, 16).chain((length) => fc.uint8Array({ minLength: length, maxLength: length })),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 80 }) },
)

/** What must be equal at both ends before anything else is heard: mostly right, or nothing else would be tried. */
const GREETING: Readonly<Record<string, fc.Arbitrary<Drawn>>> = {
  version: fc.oneof({ weight: 6, arbitrary: fc.constant(1) }, u32),
  kind: fc.oneof({ weight: 6, arbitrary: fc.constant('qix') }, fc.string()),
  keyBytes: fc.oneof({ weight: 6, arbitrary: fc.constant(32) }, u32),
}

function scalar(type: ScalarType): fc.Arbitrary<Drawn> {
  switch (type) {
    case ScalarType.BOOL:
      return fc.boolean()
    case ScalarType.STRING:
      return fc.string()
    case ScalarType.BYTES:
      return bytes
    case ScalarType.UINT32:
      return u32
    case ScalarType.UINT64:
      return u64
    default:
      throw new Error(`no lies of type ${ScalarType[type]} yet`)
  }
}

/** Any value for a field; `undefined`: the field is absent. */
export function anyValue(field: DescField): fc.Arbitrary<Drawn> {
  switch (field.fieldKind) {
    case 'scalar': {
      const value = GREETING[field.localName] ?? scalar(field.scalar)
      return field.proto.proto3Optional ? fc.option(value, { nil: undefined }) : value
    }
    case 'enum':
      return fc.integer({ min: 0, max: field.enum.values.length + 1 })
    case 'message':
      return fc.option(anyMessage(field.message), { nil: undefined, freq: 8 })
    case 'list':
      if (field.listKind === 'message') return fc.array(anyMessage(field.message), { maxLength: 4 })
      if (field.listKind === 'scalar') return fc.array(scalar(field.scalar), { maxLength: 4 })
      throw new Error(`${field.name}: no lists of this kind yet`)
    case 'map':
      throw new Error(`${field.name}: no maps yet`)
  }
}

function anyMessage(message: DescMessage): fc.Arbitrary<Drawn> {
  return fc.record(Object.fromEntries(message.fields.map((field) => [field.localName, anyValue(field)])))
}

/** Every kind of message, by the name of its case. */
export const KINDS: readonly (DescField & { readonly fieldKind: 'message' })[] = LinkMessageSchema.fields.map(
  (field) => {
    if (field.fieldKind !== 'message') throw new Error(`${field.name} is no message`)
    return field
  },
)

/** Any message, and one without a body. */
export const anyLie: fc.Arbitrary<Lie> = fc.oneof(
  ...KINDS.map((field) => anyMessage(field.message).map((value) => ({ case: field.localName, value }))),
  fc.constant({ case: undefined, value: {} }),
)

/** One field of one kind of message and what is said in it. */
export interface FieldLie {
  readonly case: string
  readonly path: readonly string[]
  readonly value: Drawn
}

function fieldLies(name: string, message: DescMessage, path: readonly string[]): fc.Arbitrary<FieldLie>[] {
  return message.fields.flatMap((field) => {
    const here = [...path, field.localName]
    const whole = anyValue(field).map((value) => ({ case: name, path: here, value }))
    return field.fieldKind === 'message' ? [whole, ...fieldLies(name, field.message, here)] : [whole]
  })
}

/** For each field of each message, also of the messages in it, the lies that can be said there. */
export const FIELD_LIES: readonly fc.Arbitrary<FieldLie>[] = KINDS.flatMap((field) =>
  fieldLies(field.localName, field.message, []),
)

/** Puts what was heard in the place of echoes, and leaves absent fields out. */
function resolved(drawn: Drawn, heard: readonly Uint8Array[]): Drawn {
  if (drawn instanceof Echo) return heard.length === 0 ? new Uint8Array() : heard[drawn.nth % heard.length]
  if (drawn instanceof Uint8Array || typeof drawn !== 'object' || drawn === null) return drawn
  if (Array.isArray(drawn)) return drawn.map((one: Drawn) => resolved(one, heard))
  const fields = Object.entries(drawn).filter(([, value]) => value !== undefined)
  return Object.fromEntries(fields.map(([name, value]) => [name, resolved(value, heard)]))
}

function build(name: string | undefined, value: Drawn): LinkMessage {
  const init = name === undefined ? {} : { body: { case: name, value } }
  return create(LinkMessageSchema, init as Parameters<typeof create<typeof LinkMessageSchema>>[1] & object)
}

export function said(lie: Lie, heard: readonly Uint8Array[] = []): LinkMessage {
  return build(lie.case, resolved(lie.value, heard))
}

/** `message` with the lie in its field; undefined where it is a message of another kind. */
export function altered(message: LinkMessage, lie: FieldLie, heard: readonly Uint8Array[]): LinkMessage | undefined {
  const { body } = message
  if (body.case !== lie.case) return undefined
  const [last = '', ...before] = [...lie.path].reverse()
  const copy: Record<string, unknown> = { ...body.value }
  let inner = copy
  for (const name of before.reverse()) {
    const next = { ...(inner[name] as Record<string, unknown> | undefined) }
    inner[name] = next
    inner = next
  }
  const value = resolved(lie.value, heard)
  if (value === undefined) Reflect.deleteProperty(inner, last)
  else inner[last] = value
  return build(body.case, stripped(copy))
}

/** Plain values: what `create` takes. */
function stripped(value: unknown): unknown {
  if (value instanceof Uint8Array || typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(stripped)
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !name.startsWith('$'))
      .map(([name, field]) => [name, stripped(field)]),
  )
}

/** The byte strings in a message. */
export function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(bytesIn)
}
