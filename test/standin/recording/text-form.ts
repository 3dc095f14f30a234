/** Protobuf messages as trees: from the recording's text form, and from real messages, so that both compare. */
import { toJson, type DescMessage, type JsonValue, type MessageShape } from '@bufbuild/protobuf'

/** Each field with its values in order. Scalars as text. */
export interface Tree {
  readonly [field: string]: readonly (string | Tree)[]
}

type OpenTree = Record<string, (string | Tree)[]>

/** Reads as much as there is: the recording cuts long lines. */
export function parseTextForm(text: string): Tree {
  const tokens = text.match(/"(?:\\.|[^"\\])*"|[{}:]|[^\s{}:"]+/g) ?? []
  let at = 0
  const message = (): Tree => {
    const fields: OpenTree = {}
    while (at < tokens.length && tokens[at] !== '}') {
      const name = tokens[at] ?? ''
      at += 1
      if (tokens[at] === '{') {
        at += 1
        ;(fields[name] ??= []).push(message())
        at += 1
      } else if (tokens[at] === ':') {
        const value = tokens[at + 1]
        at += 2
        // The last value of a cut line may be cut itself.
        if (value !== undefined && !(at >= tokens.length && text.endsWith('...'))) {
          ;(fields[name] ??= []).push(value.startsWith('"') ? value.slice(1, -1) : value)
        }
      } else return fields
    }
    return fields
  }
  return message()
}

/** A real message as such a tree; maps as key and value, as the text form has them. */
export function treeOf<D extends DescMessage>(schema: D, message: MessageShape<D>): Tree {
  return objectTree(schema, toJson(schema, message))
}

function objectTree(schema: DescMessage, json: JsonValue): Tree {
  const fields: OpenTree = {}
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return fields
  for (const field of schema.fields) {
    const value = json[field.jsonName]
    if (value === undefined) continue
    if (field.fieldKind === 'map') {
      fields[field.name] = Object.entries(value ?? {}).map(([key, entry]) => ({
        key: [key],
        value: [String(entry)],
      }))
    } else {
      const values: JsonValue[] = Array.isArray(value) ? value : [value]
      const inner = field.message
      fields[field.name] = values.map((item) => (inner === undefined ? text(item) : objectTree(inner, item)))
    }
  }
  return fields
}

function text(value: JsonValue): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
