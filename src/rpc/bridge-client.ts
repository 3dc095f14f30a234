import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import type { CallOptions as GrpcCallOptions, Client, ServiceError, StatusObject } from '@grpc/grpc-js'
import { Metadata, status as Status } from '@grpc/grpc-js'
import { methodDefinition } from './bridge-method.js'
import { type CallStatus, readMessages, writeMessage, type WriteOutcome } from './bridge-stream.js'
import { RpcError } from './rpc-error.js'

/** What every call must say. */
export interface CallOptions {
  /** How long the whole call may take, milliseconds from now; Infinity for a stream that lasts as long as it is wanted. */
  readonly deadlineMs: number
  /** Cancels the call, whatever state it is in. */
  readonly signal: AbortSignal
  /** Request metadata. */
  readonly metadata?: Metadata
}

/** The one answer of a call. */
export interface UnaryResult<O extends DescMessage> {
  readonly message: MessageShape<O>
  /** Leading metadata; empty where the peer sent none. */
  readonly headers: Metadata
  readonly trailers: Metadata
}

interface OpenCall {
  /** Leading metadata, empty where the call ended without any. Never rejects. */
  readonly headers: Promise<Metadata>
  /** How the call ended. Never rejects. Does not come while messages wait unread, unless the call failed. */
  readonly status: Promise<CallStatus>
  /** Ends the call with CANCELLED; nothing where it has ended. */
  readonly cancel: () => void
}

interface Outgoing<I extends DescMessage> {
  /** One message at a time; waits while the transport takes no more. Never rejects. */
  readonly write: (message: MessageInitShape<I>) => Promise<WriteOutcome>
  /** No more messages from here. */
  readonly end: () => void
}

/**
 * A call with many answers. Iterate it once: it yields each message, ends where the status is OK, and throws an
 * `RpcError` otherwise, after the messages that were handed over before the failure: a reader that lags
 * behind may lose the last ones. Leaving the loop early cancels the call.
 */
export interface ServerStreamCall<O extends DescMessage> extends OpenCall, AsyncIterable<MessageShape<O>> {}

/** A call with many requests and one answer. */
export interface ClientStreamCall<I extends DescMessage, O extends DescMessage> extends OpenCall, Outgoing<I> {
  /** Rejects with an `RpcError`; not looking at it is no unhandled rejection. */
  readonly result: Promise<UnaryResult<O>>
}

/** A call with many requests and many answers; to iterate as a `ServerStreamCall`. */
export interface BidiCall<I extends DescMessage, O extends DescMessage> extends ServerStreamCall<O>, Outgoing<I> {}

/** One request, one answer. Rejects with an `RpcError`, CANCELLED where the signal ended it. */
export async function unary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions,
): Promise<UnaryResult<O>> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method)
  const answer = answerOf<O>()
  const call = begin(() =>
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      create(method.input, request),
      metadataOf(options),
      grpcOptions(options),
      answer.callback,
    ),
  )
  return answer.resultOf(watch(call, options.signal))
}

/** One request, many answers. Throws an `RpcError` where the client is closed. */
export function serverStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodServerStreaming<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions,
): ServerStreamCall<O> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method)
  const stream = begin(() =>
    client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      create(method.input, request),
      metadataOf(options),
      grpcOptions(options),
    ),
  )
  const call = watch(stream, options.signal)
  const messages = untilStatus(readMessages<MessageShape<O>>(stream), call)
  return { ...call.open, [Symbol.asyncIterator]: () => messages }
}

/** Many requests, one answer. Throws an `RpcError` where the client is closed. */
export function clientStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodClientStreaming<I, O>,
  options: CallOptions,
): ClientStreamCall<I, O> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method)
  const answer = answerOf<O>()
  const stream = begin(() =>
    client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadataOf(options),
      grpcOptions(options),
      answer.callback,
    ),
  )
  const call = watch(stream, options.signal)
  const result = answer.resultOf(call)
  result.catch(() => {})
  return { ...call.open, ...outgoing(stream, method.input, call), result }
}

/** Many requests, many answers. Throws an `RpcError` where the client is closed. */
export function bidiStream<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodBiDiStreaming<I, O>,
  options: CallOptions,
): BidiCall<I, O> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method)
  const stream = begin(() =>
    client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadataOf(options),
      grpcOptions(options),
    ),
  )
  const call = watch(stream, options.signal)
  const messages = untilStatus(readMessages<MessageShape<O>>(stream), call)
  return { ...call.open, ...outgoing(stream, method.input, call), [Symbol.asyncIterator]: () => messages }
}

interface RawCall {
  cancel(): void
  on(event: 'metadata', listener: (metadata: Metadata) => void): unknown
  on(event: 'status', listener: (status: StatusObject) => void): unknown
  on(event: 'error', listener: () => void): unknown
}

interface WatchedCall {
  readonly open: OpenCall
  readonly ended: () => boolean
}

/** Ties a call to its signal and keeps what grpc-js only tells by events. */
function watch(call: RawCall, signal: AbortSignal): WatchedCall {
  let ended = false
  const cancel = (): void => {
    if (!ended) call.cancel()
  }
  // Every error is also a status; without a listener the event would end the process.
  call.on('error', () => {})
  const status = new Promise<CallStatus>((resolve) => {
    call.on('status', ({ code, details, metadata }) => {
      ended = true
      signal.removeEventListener('abort', cancel)
      resolve({ code, details, metadata })
    })
  })
  const headers = new Promise<Metadata>((resolve) => {
    call.on('metadata', resolve)
    void status.then(() => resolve(new Metadata()))
  })
  signal.addEventListener('abort', cancel, { once: true })
  if (signal.aborted) cancel()
  return { open: { headers, status, cancel }, ended: () => ended }
}

/** Joins the callback that holds the one message with the events that hold the rest. */
function answerOf<O extends DescMessage>(): {
  callback: (error: ServiceError | null, message?: MessageShape<O>) => void
  resultOf: (call: WatchedCall) => Promise<UnaryResult<O>>
} {
  let failure: ServiceError | undefined
  let message: MessageShape<O> | undefined
  return {
    callback(error, value) {
      failure = error ?? undefined
      message = value
    },
    async resultOf({ open }) {
      // grpc-js calls back just before it tells the status.
      const { code, details, metadata: trailers } = await open.status
      if (failure !== undefined) throw new RpcError(failure.code, failure.details, failure.metadata)
      if (message === undefined) throw new RpcError(code || Status.INTERNAL, details, trailers)
      return { message, headers: await open.headers, trailers }
    },
  }
}

async function* untilStatus<T>(messages: AsyncGenerator<T, void, undefined>, { open, ended }: WatchedCall) {
  try {
    yield* messages
    const { code, details, metadata } = await open.status
    if (code !== Status.OK) throw new RpcError(code, details, metadata)
  } finally {
    if (!ended()) open.cancel()
  }
}

interface RawSink<T> {
  write(message: T): boolean
  end(): unknown
  readonly writable: boolean
  on(event: string, listener: () => void): unknown
  off(event: string, listener: () => void): unknown
}

function outgoing<I extends DescMessage>(
  stream: RawSink<MessageShape<I>>,
  input: I,
  { ended }: WatchedCall,
): Outgoing<I> {
  return {
    // The writable side of a call outlives its status, and then says neither drain nor close.
    write: async (message) => (ended() ? 'ended' : writeMessage(stream, create(input, message), ['status', 'close'])),
    end() {
      if (!ended()) stream.end()
    },
  }
}

function metadataOf({ metadata }: CallOptions): Metadata {
  return metadata ?? new Metadata()
}

function grpcOptions({ deadlineMs }: CallOptions): GrpcCallOptions {
  return Number.isFinite(deadlineMs) ? { deadline: new Date(Date.now() + deadlineMs) } : {}
}

/** grpc-js throws plain errors where a call cannot even begin. */
function begin<C>(start: () => C): C {
  try {
    return start()
  } catch (cause) {
    throw new RpcError(Status.UNAVAILABLE, 'the client is closed', new Metadata(), { cause })
  }
}
