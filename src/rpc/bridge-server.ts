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
import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Server,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js'
import { Metadata, status as Status } from '@grpc/grpc-js'
import { setImmediate } from 'node:timers/promises'
import { methodDefinition, pathOf, type TypedMethod } from './bridge-method.js'
import { readMessages, writeMessage, type WriteOutcome } from './bridge-stream.js'
import { RpcError } from './rpc-error.js'

/** What a handler sees of its call. */
export interface HandlerContext<Call> {
  /** The grpc-js call: peer, deadline, request metadata, `sendMetadata` for leading metadata. */
  readonly call: Call
  /** Aborts when the caller hangs up or its deadline passes before the call was answered. */
  readonly signal: AbortSignal
  /** Trailing metadata, sent with the status, be it OK or not. Fill it before the handler is done. */
  readonly trailers: Metadata
}

/** The answers of a streaming handler. */
export interface MessageWriter<O extends DescMessage> {
  /** One message at a time; waits while the transport takes no more. Never rejects. */
  readonly write: (message: MessageInitShape<O>) => Promise<WriteOutcome>
  /** False while the transport takes no more, and after the end. */
  readonly ready: () => boolean
}

export interface HandlerOptions {
  /** Told of what a handler threw that was no `RpcError`: the caller sees INTERNAL and no text of it. */
  readonly onInternalError?: (error: unknown, path: string) => void
}

type Awaitable<T> = T | Promise<T>

/** Registers a handler: one request, one answer. */
export function addUnary<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodUnary<I, O>,
  handler: (
    request: MessageShape<I>,
    context: HandlerContext<ServerUnaryCall<MessageShape<I>, MessageShape<O>>>,
  ) => Awaitable<MessageInitShape<O>>,
  options: HandlerOptions = {},
): void {
  const serve: handleUnaryCall<MessageShape<I>, MessageShape<O>> = (call, callback) => {
    const running = run(call, pathOf(method), options)
    void running.answer(
      async () => create(method.output, await handler(call.request, running.context)),
      (message) => callback(null, message, running.context.trailers),
      (error) => callback(error),
    )
  }
  register(server, method, 'unary', serve)
}

/** Registers a handler: many requests, one answer. Reading throws CANCELLED where the caller hangs up. */
export function addClientStream<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodClientStreaming<I, O>,
  handler: (
    requests: AsyncIterable<MessageShape<I>>,
    context: HandlerContext<ServerReadableStream<MessageShape<I>, MessageShape<O>>>,
  ) => Awaitable<MessageInitShape<O>>,
  options: HandlerOptions = {},
): void {
  const serve: handleClientStreamingCall<MessageShape<I>, MessageShape<O>> = (call, callback) => {
    const running = run(call, pathOf(method), options)
    const requests = requestsOf<MessageShape<I>>(call)
    void running.answer(
      async () => create(method.output, await handler(requests, running.context)),
      (message) => callback(null, message, running.context.trailers),
      (error) => callback(error),
    )
  }
  register(server, method, 'clientStream', serve)
}

/** Registers a handler: one request, many answers. The stream ends with the handler's promise. */
export function addServerStream<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodServerStreaming<I, O>,
  handler: (
    request: MessageShape<I>,
    context: HandlerContext<ServerWritableStream<MessageShape<I>, MessageShape<O>>> & MessageWriter<O>,
  ) => Awaitable<void>,
  options: HandlerOptions = {},
): void {
  const serve: handleServerStreamingCall<MessageShape<I>, MessageShape<O>> = (call) => {
    const running = run(call, pathOf(method), options)
    const context = { ...running.context, ...writerOf(call, method.output) }
    void running.answer(
      async () => handler(call.request, context),
      () => call.end(running.context.trailers),
      (error) => call.emit('error', error),
    )
  }
  register(server, method, 'serverStream', serve)
}

/** Registers a handler: many requests, many answers. The stream ends with the handler's promise. */
export function addBidi<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: DescMethodBiDiStreaming<I, O>,
  handler: (
    requests: AsyncIterable<MessageShape<I>>,
    context: HandlerContext<ServerDuplexStream<MessageShape<I>, MessageShape<O>>> & MessageWriter<O>,
  ) => Awaitable<void>,
  options: HandlerOptions = {},
): void {
  const serve: handleBidiStreamingCall<MessageShape<I>, MessageShape<O>> = (call) => {
    const running = run(call, pathOf(method), options)
    const context = { ...running.context, ...writerOf(call, method.output) }
    const requests = requestsOf<MessageShape<I>>(call)
    void running.answer(
      async () => handler(requests, context),
      () => call.end(running.context.trailers),
      (error) => call.emit('error', error),
    )
  }
  register(server, method, 'bidi', serve)
}

type Handler<Request, Response> =
  | handleUnaryCall<Request, Response>
  | handleClientStreamingCall<Request, Response>
  | handleServerStreamingCall<Request, Response>
  | handleBidiStreamingCall<Request, Response>

type HandlerType = 'unary' | 'clientStream' | 'serverStream' | 'bidi'

function register<I extends DescMessage, O extends DescMessage>(
  server: Server,
  method: TypedMethod<I, O>,
  type: HandlerType,
  serve: Handler<MessageShape<I>, MessageShape<O>>,
): void {
  const { path, responseSerialize, requestDeserialize } = methodDefinition(method)
  if (!server.register(path, serve, responseSerialize, requestDeserialize, type)) {
    throw new Error(`${path} has a handler already`)
  }
}

interface CancellableCall {
  readonly cancelled: boolean
  on(event: 'cancelled', listener: () => void): unknown
}

interface Running<Call> {
  readonly context: HandlerContext<Call>
  /** Runs the handler and passes on how it ended, unless nobody is there to be told. Never rejects. */
  answer<R>(work: () => Promise<R>, succeed: (result: R) => void, fail: (error: RpcError) => void): Promise<void>
}

function run<Call extends CancellableCall>(call: Call, path: string, options: HandlerOptions): Running<Call> {
  const controller = new AbortController()
  const trailers = new Metadata()
  let answered = false
  const abort = (): void => {
    // grpc-js says 'cancelled' at the end of every call, answered ones included.
    if (!answered) controller.abort(new RpcError(Status.CANCELLED, 'the caller hung up or its deadline passed'))
  }
  call.on('cancelled', abort)
  if (call.cancelled) abort()
  return {
    context: { call, signal: controller.signal, trailers },
    async answer(work, succeed, fail) {
      const outcome = await work().then(
        (result) => () => succeed(result),
        (error: unknown) => {
          const failure = answerTo(error, trailers)
          return () => fail(failure)
        },
      )
      answered = true
      if (!call.cancelled) outcome()
    },
  }

  function answerTo(error: unknown, metadata: Metadata): RpcError {
    if (error instanceof RpcError && error.code !== Status.OK) {
      return new RpcError(error.code, sendable(error.details), metadata)
    }
    options.onInternalError?.(error, path)
    return new RpcError(Status.INTERNAL, 'internal error', metadata)
  }
}

/** grpc-js fails on lone surrogates, and peers on header blocks above 8 KiB: percent-encoded text may grow ninefold. */
function sendable(details: string): string {
  return Buffer.from(details.slice(0, 800), 'utf8').toString('utf8')
}

interface RawReader<T> {
  read(): T | null
  readonly readableEnded: boolean
  readonly destroyed: boolean
  readonly cancelled: boolean
  on(event: string, listener: () => void): unknown
  off(event: string, listener: () => void): unknown
}

/** The caller's messages. Listens at once. */
function requestsOf<T>(call: RawReader<T>): AsyncIterable<T> {
  const messages = readMessages<T>(call)
  return generate()

  async function* generate(): AsyncGenerator<T, void, undefined> {
    yield* messages
    // grpc-js shows a reset stream as the end of its messages first, and as cancelled a little later: a handler must
    // not take half of a caller's messages for all of them.
    await setImmediate()
    if (call.cancelled) throw new RpcError(Status.CANCELLED, 'the caller hung up or its deadline passed')
  }
}

interface RawWriter<T> {
  write(message: T): boolean
  readonly writable: boolean
  readonly writableNeedDrain: boolean
  on(event: string, listener: () => void): unknown
  off(event: string, listener: () => void): unknown
}

function writerOf<O extends DescMessage>(call: RawWriter<MessageShape<O>>, output: O): MessageWriter<O> {
  return {
    write: async (message) => writeMessage(call, create(output, message)),
    ready: () => call.writable && !call.writableNeedDrain,
  }
}
