import { readdirSync } from 'node:fs'
import { equals, fromBinary, toBinary, type DescFile, type DescMessage } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { UpstreamControlDetailsSchema } from '../../src/rpc/gen/qkdgw/dialect/v1/control_details_pb.js'
import { ControlDetailsSchema } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { anyMessage, unknownFields } from './support/arbitrary.js'

const root = new URL('../../src/rpc/gen/', import.meta.url)

/** Every message of every generated file, nested ones too. */
async function everyMessage(): Promise<DescMessage[]> {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('_pb.ts'))
  const found: DescMessage[] = []
  const gather = (message: DescMessage): void => {
    if (!message.file.name.startsWith('google/')) found.push(message)
    message.nestedMessages.forEach(gather)
  }
  for (const path of paths) {
    const module = (await import(new URL(path, root).href)) as Record<string, DescFile>
    for (const [name, file] of Object.entries(module)) if (name.startsWith('file_')) file.messages.forEach(gather)
  }
  return found
}

const messages = await everyMessage()
const runs = { numRuns: 40 }

describe.each(messages.map((schema) => [schema.typeName, schema] as const))('%s', (_name, schema) => {
  it('comes back as it was sent, whatever it holds', () => {
    fc.assert(
      fc.property(anyMessage(schema), (message) => {
        const back = fromBinary(schema, toBinary(schema, message))
        expect(equals(schema, back, message)).toBe(true)
      }),
      runs,
    )
  })

  it('keeps fields that it does not know', () => {
    fc.assert(
      fc.property(anyMessage(schema), unknownFields, (message, unknown) => {
        const received = Uint8Array.from([...toBinary(schema, message), ...unknown])
        const passedOn = toBinary(schema, fromBinary(schema, received))
        expect(Buffer.from(passedOn).includes(Buffer.from(unknown))).toBe(true)
      }),
      runs,
    )
  })

  it('takes any bytes as a message or refuses them, and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          fromBinary(schema, bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
        }
      }),
      runs,
    )
  })
})

it('there are as many messages as the contract has, and more', () => {
  expect(messages.length).toBeGreaterThan(50)
})

it('one numbering of ControlDetails passes on whatever the other wrote', () => {
  const pairs: [DescMessage, DescMessage][] = [
    [ControlDetailsSchema, UpstreamControlDetailsSchema],
    [UpstreamControlDetailsSchema, ControlDetailsSchema],
  ]
  for (const [written, read] of pairs) {
    fc.assert(
      fc.property(anyMessage(written), (message) => {
        const bytes = toBinary(written, message)
        const passedOn = toBinary(read, fromBinary(read, bytes))
        expect(equals(written, fromBinary(written, passedOn), message)).toBe(true)
      }),
    )
  }
})
