/** Arbitrary messages of any described type, extremes included. */
import { create, ScalarType, type DescField, type DescMessage, type Message } from '@bufbuild/protobuf'
import fc from 'fast-check'

const MAX_DEPTH = 3

function scalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.DOUBLE:
      return fc.double({ noNaN: true })
    case ScalarType.FLOAT:
      return fc.float({ noNaN: true })
    case ScalarType.BOOL:
      return fc.boolean()
    case ScalarType.STRING:
      return fc.string({ unit: 'grapheme', maxLength: 40 })
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 200 })
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.bigInt(0n, 2n ** 64n - 1n)
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.integer({ min: 0, max: 2 ** 32 - 1 })
    default:
      return fc.integer()
  }
}

/** Any 32-bit number is a valid enum value in proto3. */
const enumValue = fc.oneof(fc.integer({ min: 0, max: 8 }), fc.integer())

function fieldValue(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const single = (kind: string, message?: DescMessage, type?: ScalarType): fc.Arbitrary<unknown> => {
    if (kind === 'message' && message !== undefined) return messageInit(message, depth + 1)
    return kind === 'enum' ? enumValue : scalar(type ?? ScalarType.INT32)
  }
  if (field.fieldKind === 'list') {
    const item = single(field.listKind, field.message, field.scalar)
    return fc.array(item, { maxLength: depth >= MAX_DEPTH ? 0 : 4 })
  }
  if (field.fieldKind === 'map') {
    const value = single(field.mapKind, field.message, field.scalar)
    return fc.dictionary(scalar(field.mapKey).map(String), value, { maxKeys: depth >= MAX_DEPTH ? 0 : 3 })
  }
  return single(field.fieldKind, field.message, field.scalar)
}

function messageInit(schema: DescMessage, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const parts: fc.Arbitrary<Record<string, unknown>>[] = schema.members.map((member) => {
    if (member.kind === 'oneof') {
      const choices = member.fields.map((field) =>
        fieldValue(field, depth).map((value) => ({ case: field.localName, value })),
      )
      return fc
        .option(fc.oneof(...choices), { nil: undefined })
        .map((value) => (value === undefined ? {} : { [member.localName]: value }))
    }
    if (member.fieldKind === 'message' && depth >= MAX_DEPTH) return fc.constant({})
    return fc
      .option(fieldValue(member, depth), { nil: undefined })
      .map((value) => (value === undefined ? {} : { [member.localName]: value }))
  })
  return fc.tuple(...parts).map((values) => Object.assign({}, ...values) as Record<string, unknown>)
}

export function anyMessage(schema: DescMessage): fc.Arbitrary<Message> {
  return messageInit(schema, 0).map((init) => create(schema, init))
}

/** Encoded fields with numbers that no message of the contract uses. */
export const unknownFields: fc.Arbitrary<Uint8Array> = fc
  .array(fc.tuple(fc.integer({ min: 1_000, max: 2 ** 28 }), fc.uint8Array({ maxLength: 40 })), {
    minLength: 1,
    maxLength: 4,
  })
  .map((fields) =>
    Uint8Array.from(
      fields.flatMap(([number, bytes]) => [...varint(number * 8 + 2), ...varint(bytes.length), ...bytes]),
    ),
  )

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]
}
