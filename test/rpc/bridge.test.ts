import { create } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import { Client, credentials, Metadata, Server, ServerCredentials, status as Status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  addBidi,
  addClientStream,
  addServerStream,
  addUnary,
  bidiStream,
  type CallOptions,
  clientStream,
  methodDefinition,
  RpcError,
  rpcError,
  serverStream,
  unary,
} from '../../src/rpc/bridge.js'
import { IDevice, RawKeysSchema } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IPrivacyAmplify } from '../../src/rpc/gen/cqp/remote/privacy_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'

// The contract has no method with streams both ways.
const echoBoth = {
  ...Probe.method.echo,
  name: 'EchoBoth',
  localName: 'echoBoth',
  methodKind: 'bidi_streaming' as const,
}
const { sessionStarting } = ISession.method
const { waitForSession } = IDevice.method
const { amplifyPrivacy } = IPrivacyAmplify.method

let server: Server
let client: Client
let stop: AbortController

beforeEach(() => {
  server = new Server()
  stop = new AbortController()
})

afterEach(() => {
  stop.abort()
  client.close()
  server.forceShutdown()
})

/** Starts the server with the handlers registered so far. */
async function connect(): Promise<Client> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    )
  })
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
  return client
}

function options(more: Partial<CallOptions> = {}): CallOptions {
  return { deadlineMs: 20_000, signal: stop.signal, ...more }
}

async function failureOf(promise: Promise<unknown>): Promise<RpcError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof RpcError) return error
  throw new Error('expected an RpcError', { cause: error })
}

function gate(): { open: () => void; passed: Promise<void> } {
  let open = (): void => {}
  const passed = new Promise<void>((resolve) => (open = resolve))
  return { open: () => open(), passed }
}

async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const message of messages) list.push(message)
  return list
}

describe('unary', () => {
  it('carries message and metadata both ways', async () => {
    addUnary(server, sessionStarting, (request, { call, trailers }) => {
      expect(call.getPeer()).toMatch(/^127\.0\.0\.1:/)
      const leading = new Metadata()
      leading.set('x-seen', call.metadata.get('x-link').join())
      call.sendMetadata(leading)
      trailers.set('x-key-id', String(request.details?.initialKeyId))
      return {}
    })
    const metadata = new Metadata()
    metadata.set('x-link', 'one')
    const result = await unary(
      await connect(),
      sessionStarting,
      { details: { initialKeyId: 2n ** 64n - 1n }, initiatorAddress: 'h:1' },
      options({ metadata }),
    )
    expect(result.message).toEqual(create(EmptySchema))
    expect(result.headers.get('x-seen')).toEqual(['one'])
    expect(result.trailers.get('x-key-id')).toEqual(['18446744073709551615'])
  })

  it('gives bytes as plain arrays', async () => {
    addUnary(server, Probe.method.echo, ({ nonce }) => ({ nonce, proof: new Uint8Array([9]) }))
    const nonce = new Uint8Array([1, 2, 3])
    const { message } = await unary(await connect(), Probe.method.echo, { nonce }, options())
    expect(message.nonce).toEqual(nonce)
    expect(Buffer.isBuffer(message.nonce)).toBe(false)
  })

  it('hands the status of a handler to the caller, trailers included', async () => {
    addUnary(server, sessionStarting, (_request, { trailers }) => {
      trailers.set('x-why', 'field')
      throw rpcError(Status.INVALID_ARGUMENT, 'initiatorAddress: "ü\ud800" is no host:port')
    })
    const error = await failureOf(unary(await connect(), sessionStarting, {}, options()))
    expect(error.code).toBe(Status.INVALID_ARGUMENT)
    expect(error.details).toBe('initiatorAddress: "ü\ufffd" is no host:port')
    expect(error.message).toBe(`INVALID_ARGUMENT: ${error.details}`)
    expect(error.metadata.get('x-why')).toEqual(['field'])
  })

  it.each([
    ['a plain error', () => new Error('secret')],
    ['a text', () => 'secret'],
    ['OK as an error', () => rpcError(Status.OK, 'secret')],
  ])('shows nothing of %s thrown', async (_what, make) => {
    const seen: unknown[] = []
    addUnary(server, sessionStarting, () => Promise.reject<object>(make() as Error), {
      onInternalError: (error, path) => seen.push(path, error),
    })
    const error = await failureOf(unary(await connect(), sessionStarting, {}, options()))
    expect([error.code, error.details]).toEqual([Status.INTERNAL, 'internal error'])
    expect(seen).toEqual(['/cqp.remote.ISession/SessionStarting', make()])
  })

  it('ends at its deadline, on both sides', async () => {
    const hungUp = gate()
    addUnary(server, sessionStarting, async (_request, { signal }) => {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
      hungUp.open()
      return {}
    })
    const error = await failureOf(unary(await connect(), sessionStarting, {}, options({ deadlineMs: 150 })))
    expect(error.code).toBe(Status.DEADLINE_EXCEEDED)
    await hungUp.passed
  })

  it('ends with its signal, on both sides, also where that had aborted before', async () => {
    const [entered, hungUp] = [gate(), gate()]
    addUnary(server, sessionStarting, async (_request, { signal }) => {
      signal.addEventListener('abort', hungUp.open)
      entered.open()
      await hungUp.passed
      return {}
    })
    const answer = failureOf(unary(await connect(), sessionStarting, {}, options()))
    await entered.passed
    stop.abort()
    expect((await answer).code).toBe(Status.CANCELLED)
    await hungUp.passed
    expect((await failureOf(unary(client, sessionStarting, {}, options()))).code).toBe(Status.CANCELLED)
  })

  it('does not abort the signal of a call that was answered', async () => {
    let aborted = false
    addUnary(server, sessionStarting, (_request, { signal }) => {
      signal.addEventListener('abort', () => (aborted = true))
      return {}
    })
    await connect()
    for (let i = 0; i < 3; i += 1) await unary(client, sessionStarting, {}, options())
    expect(aborted).toBe(false)
  })

  it('tells unknown methods, closed servers and closed clients apart by status', async () => {
    await connect()
    expect((await failureOf(unary(client, sessionStarting, {}, options()))).code).toBe(Status.UNIMPLEMENTED)
    server.forceShutdown()
    expect((await failureOf(unary(client, sessionStarting, {}, options()))).code).toBe(Status.UNAVAILABLE)
    client.close()
    expect((await failureOf(unary(client, sessionStarting, {}, options()))).details).toBe('the client is closed')
  })
})

describe('server stream', () => {
  const batch = { keyData: [new Uint8Array(30_000).fill(5)] }

  it('yields every message, then ends, with metadata', async () => {
    addServerStream(server, waitForSession, async (request, { call, write, trailers }) => {
      const leading = new Metadata()
      leading.set('x-lead', 'yes')
      call.sendMetadata(leading)
      for (let i = 0; i < 100; i += 1) await write({ keyData: [Uint8Array.of(i), request.initialKey] })
      trailers.set('x-trail', 'yes')
    })
    const call = serverStream(await connect(), waitForSession, { initialKey: Uint8Array.of(7) }, options())
    const messages = await all(call)
    expect(messages.map(({ keyData }) => keyData[0]?.[0])).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(messages[0]).toEqual(create(RawKeysSchema, { keyData: [Uint8Array.of(0), Uint8Array.of(7)] }))
    expect((await call.headers).get('x-lead')).toEqual(['yes'])
    const status = await call.status
    expect(status.code).toBe(Status.OK)
    expect(status.metadata.get('x-trail')).toEqual(['yes'])
  })

  it('yields what was handed over before a failure', async () => {
    const handed = gate()
    addServerStream(server, waitForSession, async (_request, { write }) => {
      for (let i = 0; i < 12; i += 1) await write({ keyData: [Uint8Array.of(i)] })
      await handed.passed
      throw rpcError(Status.ABORTED, 'the device went away')
    })
    const got: (number | undefined)[] = []
    const call = serverStream(await connect(), waitForSession, {}, options())
    const failure = await failureOf(
      (async () => {
        for await (const { keyData } of call) {
          got.push(keyData[0]?.[0])
          if (got.length > 1) continue
          // The others arrive meanwhile, and then the failure, before the second is read.
          await new Promise((resolve) => setTimeout(resolve, 100))
          handed.open()
          expect((await call.status).code).toBe(Status.ABORTED)
        }
      })(),
    )
    expect(got).toEqual(Array.from({ length: 12 }, (_, i) => i))
    expect([failure.code, failure.details]).toEqual([Status.ABORTED, 'the device went away'])
  })

  it('waits for a slow reader, and stops waiting as soon as that one cancels', async () => {
    let written = 0
    const outcomes: string[] = []
    const [stalled, finished] = [gate(), gate()]
    addServerStream(server, waitForSession, async (_request, { call, write, ready, signal }) => {
      for (;;) {
        const writing = write(batch)
        const slow = setTimeout(stalled.open, 200)
        const outcome = await writing
        clearTimeout(slow)
        outcomes.push(outcome)
        if (outcome === 'ended') break
        written += 1
        expect(call.listenerCount('drain')).toBeLessThanOrEqual(1)
      }
      expect(signal.aborted).toBe(true)
      expect(ready()).toBe(false)
      expect(call.listenerCount('cancelled')).toBeLessThanOrEqual(1)
      expect(await write(batch)).toBe('ended')
      finished.open()
    })
    const call = serverStream(await connect(), waitForSession, {}, options())
    await stalled.passed
    // What fits between the two: 16 messages on each side, the windows and what Node buffers.
    expect(written).toBeGreaterThan(0)
    expect(written).toBeLessThan(200)
    const before = written
    const answers = call[Symbol.asyncIterator]()
    for (let i = 0; i < 60; i += 1) await answers.next()
    expect(written).toBeGreaterThan(before)
    call.cancel()
    await finished.passed
    expect(outcomes.at(-1)).toBe('ended')
    expect((await call.status).code).toBe(Status.CANCELLED)
    call.cancel()
  })

  it('is cancelled by leaving the loop', async () => {
    const hungUp = gate()
    addServerStream(server, waitForSession, async (_request, { write }) => {
      while ((await write({ keyData: [Uint8Array.of(1)] })) === 'sent') {
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      hungUp.open()
    })
    const call = serverStream(await connect(), waitForSession, {}, options({ deadlineMs: Infinity }))
    for await (const message of call) {
      expect(message.keyData.length).toBe(1)
      break
    }
    expect((await call.status).code).toBe(Status.CANCELLED)
    await hungUp.passed
  })

  it('ends with INTERNAL and no text where the handler fails', async () => {
    addServerStream(server, waitForSession, () => {
      throw new Error('secret')
    })
    const call = serverStream(await connect(), waitForSession, {}, options())
    const error = await failureOf(all(call))
    expect([error.code, error.details]).toEqual([Status.INTERNAL, 'internal error'])
    expect((await call.headers).getMap()).not.toHaveProperty('x-lead')
  })
})

describe('client stream', () => {
  it('collects messages into one answer', async () => {
    const frames: bigint[] = []
    addClientStream(server, amplifyPrivacy, async (requests, { trailers }) => {
      for await (const { frameId } of requests) frames.push(frameId)
      trailers.set('x-frames', String(frames.length))
      return {}
    })
    const call = clientStream(await connect(), amplifyPrivacy, options())
    for (let i = 0n; i < 100n; i += 1n) expect(await call.write({ frameId: i })).toBe('sent')
    call.end()
    expect((await call.result).trailers.get('x-frames')).toEqual(['100'])
    expect(frames).toEqual(Array.from({ length: 100 }, (_, i) => BigInt(i)))
    expect(await call.write({})).toBe('ended')
  })

  it('does not take the messages of a caller that hung up for all of them', async () => {
    let report: (end: unknown) => void = () => {}
    let entered = gate()
    addClientStream(server, amplifyPrivacy, async (requests) => {
      entered.open()
      await all(requests).then(() => report('all'), report)
      return {}
    })
    await connect()
    for (let i = 0; i < 50; i += 1) {
      entered = gate()
      const seen = new Promise<unknown>((resolve) => (report = resolve))
      const call = clientStream(client, amplifyPrivacy, options())
      await call.write({ hashFunction: 'h'.repeat(i * 1000) })
      await entered.passed
      call.cancel()
      expect(await seen).toMatchObject({ name: 'RpcError', code: Status.CANCELLED })
      expect((await failureOf(call.result)).code).toBe(Status.CANCELLED)
    }
  })
})

describe('streams both ways', () => {
  it('answer each message as it comes', async () => {
    addBidi(server, echoBoth, async (requests, { write, trailers }) => {
      for await (const { nonce } of requests) await write({ nonce })
      trailers.set('x-done', 'yes')
    })
    const call = bidiStream(await connect(), echoBoth, options())
    const answers = call[Symbol.asyncIterator]()
    for (let i = 0; i < 40; i += 1) {
      await call.write({ nonce: Uint8Array.of(i) })
      expect(await answers.next()).toMatchObject({ done: false, value: { nonce: Uint8Array.of(i) } })
    }
    call.end()
    expect((await answers.next()).done).toBe(true)
    expect((await call.status).metadata.get('x-done')).toEqual(['yes'])
  })

  it('stop with the handler, whatever the caller still writes', async () => {
    addBidi(server, echoBoth, async (requests) => {
      for await (const _request of requests) throw rpcError(Status.RESOURCE_EXHAUSTED, 'enough')
    })
    const call = bidiStream(await connect(), echoBoth, options())
    const padding = new Uint8Array(30_000)
    let outcome = 'sent'
    while (outcome === 'sent') outcome = await call.write({ padding })
    expect(outcome).toBe('ended')
    expect((await failureOf(all(call))).code).toBe(Status.RESOURCE_EXHAUSTED)
    expect(await call.write({ padding })).toBe('ended')
  })
})

describe('definitions', () => {
  it('have the path and the kind of the method', () => {
    expect(methodDefinition(waitForSession)).toMatchObject({
      path: '/cqp.remote.IDevice/WaitForSession',
      requestStream: false,
      responseStream: true,
    })
    expect(methodDefinition(amplifyPrivacy)).toMatchObject({ requestStream: true, responseStream: false })
  })

  it('are registered once', async () => {
    addUnary(server, sessionStarting, () => ({}))
    expect(() => addUnary(server, sessionStarting, () => ({}))).toThrow(/SessionStarting has a handler already/)
    await connect()
  })
})
