import { create } from '@bufbuild/protobuf'
import { Metadata, status as Status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { createSendQueue, type LinkChannel } from '../../src/link/channel.js'
import { METADATA } from '../../src/link/peer.js'
import type { LinkMessage } from '../../src/link/messages.js'
import { bidiStream, RpcError } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { Link, LinkMessageSchema } from '../../src/rpc/gen/qkdgw/link/v1/link_pb.js'
import {
  call,
  countsHold,
  type Gateway,
  type GatewayOptions,
  offer,
  parameters,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running = new Set<Gateway>()

async function gateway(options?: GatewayOptions): Promise<Gateway> {
  const started = await startGateway(options)
  running.add(started)
  return started
}

afterEach(async () => {
  await Promise.all([...running].map((one) => one.crash()))
  running.clear()
})

const GREETING = [
  [METADATA.version, '1'],
  [METADATA.kind, 'qix'],
  [METADATA.keyBytes, '32'],
] as const

function callWith(metadata: readonly (readonly [string, string])[]): ReturnType<typeof call> {
  return { ...call(), metadata: new Map(metadata) }
}

describe('a stranger', () => {
  it('who opens the link service without the token is turned away, and the link goes on', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    const channel = await openChannel({ address: left.address, what: 'address' })
    for (const token of [undefined, '', '0'.repeat(64)]) {
      const metadata = new Metadata()
      if (token !== undefined) metadata.set(METADATA.session, token)
      const open = bidiStream(channel.client, Link.method.open, {
        deadlineMs: 5_000,
        signal: new AbortController().signal,
        metadata,
      })
      await expect(
        (async () => {
          for await (const _ of open) expect.unreachable()
        })(),
      ).rejects.toMatchObject({ code: Status.UNAUTHENTICATED })
    }
    await channel.close()
    offer(left, 0, 100)
    offer(right, 0, 100)
    await right.site.has(50)
    expect(left.site.keys).toEqual(right.site.keys)
  })

  it('ends no session and begins none while one lives', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    await until('open', () => left.link.linkStatusReport().facts?.['otherReady'] === true)
    for (const one of [left, right]) {
      await expect(one.link.sessionEnding(call())).rejects.toMatchObject({ code: Status.PERMISSION_DENIED })
      for (const address of ['127.0.0.1:9', one === left ? right.address : left.address]) {
        for (const metadata of [[], GREETING]) {
          await expect(one.link.sessionStarting(parameters, address, callWith(metadata))).rejects.toMatchObject({
            code: Status.FAILED_PRECONDITION,
          })
        }
      }
      expect(one.link.session.value.state).toBe('started')
      expect(one.link.sessionPeer(call().originator, new Map())).toBe('stranger')
    }
    offer(left, 0, 100)
    offer(right, 0, 100)
    await right.site.has(50)
  })
})

/** A peer that begins a session with `left` and then says what it likes. */
async function liar(
  left: Gateway,
): Promise<{ channel: LinkChannel; heard: LinkMessage[]; closed: () => boolean; send(message: LinkMessage): void }> {
  const starting = callWith([...GREETING, [METADATA.attempt, Math.random().toString()]])
  await left.link.sessionStarting(parameters, '127.0.0.1:9', starting)
  const token = starting.trailers.get(METADATA.session) ?? ''
  const heard: LinkMessage[] = []
  let isClosed = false
  const queue = createSendQueue(
    async (message) => {
      heard.push(message)
      return 'sent'
    },
    () => {},
  )
  const channel: LinkChannel = {
    send: (message) => queue.push(message),
    close() {
      isClosed = true
      listener.onClosed(Status.CANCELLED, '')
    },
  }
  const listener = left.link.acceptLink(callWith([[METADATA.session, token]]), channel)
  return { channel, heard, closed: () => isClosed, send: (message) => listener.onMessage(message) }
}

const hello = (changes: Record<string, unknown> = {}): LinkMessage =>
  create(LinkMessageSchema, {
    body: {
      case: 'hello',
      value: {
        version: 1,
        kind: 'qix',
        keyBytes: 32,
        incarnation: new Uint8Array(16),
        freshLineage: new Uint8Array(16).fill(3),
        nextSerial: 1n,
        site: { ready: true, stream: new Uint8Array(12), confirmation: 1 },
        ...changes,
      },
    },
  })

const site = fc.record({
  ready: fc.boolean(),
  stream: fc.uint8Array({ maxLength: 80 }),
  confirmation: fc.integer({ min: 0, max: 9 }),
  restartsNumbering: fc.boolean(),
  mayBeRenewed: fc.boolean(),
  renewed: fc.boolean(),
  fresh: fc.boolean(),
  reason: fc.string(),
})
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
const u32 = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }))
const ref = fc.record({ serial: u64, count: u32 })
const runs = fc.array(fc.record({ first: u64, count: u32, step: u64 }), { maxLength: 5 })
const bytes = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))

/** Every message with every field at will. */
const body = fc.oneof(
  fc
    .record({
      version: fc.constantFrom(0, 1, 2),
      kind: fc.constantFrom('qix', 'x'),
      keyBytes: fc.constantFrom(32, 0, 16),
      incarnation: bytes,
      lineage: bytes,
      freshLineage: bytes,
      settledSerial: u64,
      ahead: fc.array(ref, { maxLength: 20 }),
      inDoubt: fc.array(ref, { maxLength: 20 }),
      unsure: fc.array(ref, { maxLength: 20 }),
      position: u64,
      total: fc.option(u64, { nil: undefined }),
      divergedAt: fc.option(u64, { nil: undefined }),
      acceptsDivergence: fc.boolean(),
      nextSerial: u64,
      site: fc.option(site, { nil: undefined }),
    })
    .map((value) => ({ case: 'hello' as const, value })),
  site.map((value) => ({ case: 'site' as const, value })),
  fc.record({ ids: runs, anew: fc.boolean() }).map((value) => ({ case: 'announce' as const, value })),
  fc
    .record({ serial: u64, ids: runs, sacrificed: u32, tag: bytes })
    .map((value) => ({ case: 'propose' as const, value })),
  fc.record({ serial: u64, point: bytes }).map((value) => ({ case: 'verified' as const, value })),
  fc
    .record({ serial: u64, reason: fc.integer({ min: 0, max: 9 }) })
    .map((value) => ({ case: 'refused' as const, value })),
  fc
    .record({ serial: u64, total: fc.option(u64, { nil: undefined }), skipped: fc.boolean() })
    .map((value) => ({ case: 'takenIn' as const, value })),
  fc.record({ serial: u64, drop: fc.boolean() }).map((value) => ({ case: 'withdrawn' as const, value })),
  fc.record({ through: u64, reason: fc.string() }).map((value) => ({ case: 'dropThrough' as const, value })),
  fc.record({ firstDifferingKey: u64, reason: fc.string() }).map((value) => ({ case: 'diverged' as const, value })),
  fc.constant({ case: 'acceptDivergence' as const, value: {} }),
  fc.record({ number: u64 }).map((value) => ({ case: 'ping' as const, value })),
  fc.record({ number: u64 }).map((value) => ({ case: 'pong' as const, value })),
  fc.record({ reason: fc.string() }).map((value) => ({ case: 'bye' as const, value })),
  fc.constant({ case: undefined }),
)

/** `undefined` stands for an absent field. */
function messageOf(drawn: { case: string | undefined; value?: object }): LinkMessage {
  const value = Object.fromEntries(Object.entries(drawn.value ?? {}).filter(([, field]) => field !== undefined))
  const init = drawn.case === undefined ? {} : { body: { case: drawn.case, value } }
  return create(LinkMessageSchema, init as Parameters<typeof create<typeof LinkMessageSchema>>[1] & object)
}

describe('a peer that lies in any field of any message', () => {
  it('gets no key out, loses none of ours but the proofs, and breaks nothing', async () => {
    const left = await gateway()
    left.link.waitForSession(new Uint8Array(), left.site.open())
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(body, { maxLength: 12 }), async (greets, drawn) => {
        const peer = await liar(left)
        const before = left.link.counts()
        offer(left, 0, 30)
        if (greets) peer.send(hello())
        for (const one of drawn) if (!peer.closed()) peer.send(messageOf(one))
        await new Promise((resolve) => setTimeout(resolve, 3))
        expect(left.site.keys).toEqual([])
        expect(countsHold(left)).toBe(true)
        const { dropped, sacrificed } = left.link.counts()
        // What a repeated offer brings twice is not lost.
        const lost = Object.entries(dropped).filter(([reason]) => reason !== 'repeated' && reason !== 'late')
        expect(lost).toEqual([])
        expect(sacrificed - before.sacrificed).toBeLessThanOrEqual(3n)
        expect(left.link.linkStatusReport().state).not.toBe('diverged')
        await left.link.endSession(call())
      }),
      { numRuns: 150, endOnFailure: true },
    )
    // And after all of it the true peer finds everything as it should be.
    const right = await gateway()
    await startSession(left, right)
    offer(left, 100, 200)
    offer(right, 100, 200)
    await right.site.has(50)
    await until('equal', () => left.site.keys.join() === right.site.keys.join())
  })

  it('is told which field cannot be', async () => {
    const left = await gateway()
    const cases: [LinkMessage, RegExp][] = [
      [messageOf({ case: 'takenIn', value: { serial: 1n } }), /Hello/],
      [hello({ incarnation: new Uint8Array(3) }), /Hello\.incarnation/],
      [
        hello({
          ahead: [
            { serial: 2n, count: 1 },
            { serial: 1n, count: 1 },
          ],
        }),
        /Hello\.ahead\.serial/,
      ],
    ]
    for (const [message, reason] of cases) {
      const starting = callWith([...GREETING, [METADATA.attempt, Math.random().toString()]])
      await left.link.sessionStarting(parameters, '127.0.0.1:9', starting)
      const token = starting.trailers.get(METADATA.session) ?? ''
      const channel = await openChannel({ address: left.address, what: 'address' })
      const metadata = new Metadata()
      metadata.set(METADATA.session, token)
      const open = bidiStream(channel.client, Link.method.open, {
        deadlineMs: 5_000,
        signal: new AbortController().signal,
        metadata,
      })
      await open.write(message)
      const failure = await (async (): Promise<unknown> => {
        try {
          for await (const _ of open);
          return undefined
        } catch (error) {
          return error
        }
      })()
      expect(failure).toBeInstanceOf(RpcError)
      expect(failure).toMatchObject({ code: Status.INVALID_ARGUMENT })
      expect(failure instanceof RpcError ? failure.details : '').toMatch(reason)
      await channel.close()
      await left.link.endSession(call())
    }
  })
})
