import type { DescMessage, DescMethod, MessageShape } from '@bufbuild/protobuf'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { MethodDefinition } from '@grpc/grpc-js'

/** A described method whose message types are known. */
export type TypedMethod<I extends DescMessage, O extends DescMessage> = Omit<DescMethod, 'input' | 'output'> & {
  readonly input: I
  readonly output: O
}

/**
 * The grpc-js definition of a protobuf-es method. `bytes` of decoded messages are views into the received buffer:
 * copy what is kept, and wipe both where it is a key. Unknown fields survive a decode and encode.
 */
export function methodDefinition<I extends DescMessage, O extends DescMessage>(
  method: TypedMethod<I, O>,
): MethodDefinition<MessageShape<I>, MessageShape<O>> {
  const { input, output, methodKind } = method
  return {
    path: pathOf(method),
    originalName: method.localName,
    requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
    responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
    requestSerialize: (message) => asBuffer(toBinary(input, message)),
    requestDeserialize: (bytes) => fromBinary(input, asPlainBytes(bytes)),
    responseSerialize: (message) => asBuffer(toBinary(output, message)),
    responseDeserialize: (bytes) => fromBinary(output, asPlainBytes(bytes)),
  }
}

/** `/package.Service/Method`. */
export function pathOf(method: Pick<DescMethod, 'parent' | 'name'>): string {
  return `/${method.parent.typeName}/${method.name}`
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

// The reader slices with the methods of what it is given: from a Buffer, `bytes` fields would be Buffers, whose
// slice() does not copy as that of a Uint8Array does.
function asPlainBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}
