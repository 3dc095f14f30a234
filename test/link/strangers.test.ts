import { create } from '@bufbuild/protobuf'
import { Metadata, status as Status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { ChannelListener, LinkChannel } from '../../src/link/channel.js'
import { memoryJournal } from '../../src/link/journal.js'
import { METADATA, type PeerConnector } from '../../src/link/peer.js'
import { createPeerConnector } from '../../src/link/peer-client.js'
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
import { altered, anyLie, bytesIn, FIELD_LIES, type FieldLie, type Lie, said } from './lies.js'

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

interface Liar {
  readonly heard: LinkMessage[]
  closed(): boolean
  send(message: LinkMessage): void
}

/** An end of a channel that says what it likes; `attach` is the gateway's end. */
function liarOn(attach: (channel: LinkChannel) => ChannelListener): Liar {
  const heard: LinkMessage[] = []
  let isClosed = false
  const channel: LinkChannel = {
    send: (message) => heard.push(message),
    close() {
      isClosed = true
      queueMicrotask(() => listener.onClosed(Status.CANCELLED, ''))
    },
  }
  const listener = attach(channel)
  return { heard, closed: () => isClosed, send: (message) => listener.onMessage(message) }
}

/** One that begins a session with `left`. */
async function liarAtRight(left: Gateway): Promise<Liar> {
  const starting = callWith([...GREETING, [METADATA.attempt, Math.random().toString()]])
  await left.link.sessionStarting(parameters, '127.0.0.1:9', starting)
  const token = starting.trailers.get(METADATA.session) ?? ''
  return liarOn((channel) => left.link.acceptLink(callWith([[METADATA.session, token]]), channel))
}

/** Whom a gateway begins a session with. */
function liarsAtLeft(): { connector: PeerConnector; last(): Liar } {
  let last: Liar | undefined
  const connector: PeerConnector = {
    connect: async () => ({
      sessionStarting: async () => new Map([...GREETING, [METADATA.session, 'ab'.repeat(32)]]),
      sessionEnding: async () => {},
      openLink: (_, attach) => (last = liarOn(attach)),
      close: () => {},
    }),
  }
  return {
    connector,
    last() {
      if (last === undefined) throw new Error('the link was not opened')
      return last
    },
  }
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

/** A greeting with one field that is a lie. */
const nearlyTrue: fc.Arbitrary<FieldLie> = fc.oneof(...FIELD_LIES).filter((lie) => lie.case === 'hello')

interface Said {
  readonly greeting: 'none' | 'true' | FieldLie
  readonly lies: readonly Lie[]
}

const speech: fc.Arbitrary<Said> = fc.record({
  greeting: fc.oneof(fc.constantFrom('none' as const, 'true' as const), nearlyTrue),
  lies: fc.array(anyLie, { maxLength: 12 }),
})

/** What the gateway's own Hello tells, said back to it as its peer would say it. */
function mirrored(heard: readonly LinkMessage[]): LinkMessage {
  const { body } = heard[0] ?? hello()
  if (body.case !== 'hello') throw new Error('a gateway says Hello first')
  const { lineage, settledSerial, position, total, nextSerial, ownStore, otherStore, site } = body.value
  const theirs = { ready: true, stream: new Uint8Array(12), confirmation: 1, store: otherStore, sees: site?.store }
  return hello({
    ...{ lineage, settledSerial, position, nextSerial, ownStore: otherStore, otherStore: ownStore, site: theirs },
    ...(total === undefined ? {} : { total }),
  })
}

/** Says it all, for as long as it is listened to. */
function speak(peer: Liar, { greeting, lies }: Said): void {
  const heard = (): Uint8Array[] => peer.heard.flatMap(bytesIn)
  const mirror = mirrored(peer.heard)
  if (greeting === 'true') peer.send(mirror)
  else if (greeting !== 'none') peer.send(altered(mirror, greeting, heard()) ?? mirror)
  for (const lie of lies) if (!peer.closed()) peer.send(said(lie, heard()))
}

/** Nothing came of what a liar said in a session with `gateway`. */
function unharmed(one: Gateway, delivered: readonly string[], sacrificedBefore: bigint): void {
  expect(one.site.keys).toEqual(delivered)
  expect(countsHold(one)).toBe(true)
  const { dropped, sacrificed, held } = one.link.counts()
  // What a repeated offer brings twice is not lost.
  const lost = Object.entries(dropped).filter(([reason]) => reason !== 'repeated' && reason !== 'late')
  expect(lost).toEqual([])
  expect(sacrificed - sacrificedBefore).toBeLessThanOrEqual(3n)
  expect(Number(held)).toBeLessThan(100)
  expect(one.link.linkStatusReport().state).not.toBe('diverged')
}

describe('a peer that lies in any field of any message', () => {
  it('gets no key out, loses none of ours but the proofs, and breaks nothing, at either end', async () => {
    const journals = [memoryJournal(), memoryJournal()] as const
    const left = await gateway({ journal: journals[0] })
    const liars = liarsAtLeft()
    const trueConnector = createPeerConnector()
    let lying = false
    const connector: PeerConnector = {
      connect: (address) => (lying ? liars.connector : trueConnector).connect(address),
    }
    const right = await gateway({ connector, journal: journals[1] })
    // Both have a history, so that there is something to lie about.
    await startSession(left, right)
    let next = 0
    const feed = async (): Promise<void> => {
      const target = right.site.keys.length + 20
      await until('keys flow', () => {
        offer(left, next, next + 5)
        offer(right, next, next + 5)
        next += 5
        return right.site.keys.length >= target
      })
      await until('equal', () => left.site.keys.join() === right.site.keys.join())
      await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    }
    await feed()
    await right.link.endSession(call())
    await until('both ended', () => left.link.session.value.state === 'none')
    lying = true
    const delivered = [...left.site.keys]
    const records = journals.map((journal) => journal.records)
    await fc.assert(
      fc.asyncProperty(speech, speech, async (toLeft, toRight) => {
        const before = [left, right].map((one) => one.link.counts().sacrificed)
        const recordsBefore = records.map((one) => one.length)
        offer(left, next, next + 30)
        offer(right, next, next + 30)
        const atRight = await liarAtRight(left)
        await right.link.runSession(parameters, '127.0.0.1:9', call())
        speak(atRight, toLeft)
        speak(liars.last(), toRight)
        await new Promise((resolve) => setTimeout(resolve, 3))
        unharmed(left, delivered, before[0] ?? 0n)
        unharmed(right, delivered, before[1] ?? 0n)
        records.forEach((one, index) => expect(one.length - (recordsBefore[index] ?? 0)).toBeLessThan(10))
        await Promise.all([left.link.endSession(call()), right.link.endSession(call())])
      }),
      { numRuns: 80, endOnFailure: true },
    )
    // And after all of it the true peer finds everything as it should be.
    lying = false
    next += 100
    await startSession(left, right)
    await feed()
    expect(left.link.linkStatusReport().facts?.['position']).toBe(left.site.keys.length)
    expect(new Set(left.site.keys).size).toBe(left.site.keys.length)
  })

  it('is told which field cannot be', async () => {
    const left = await gateway()
    const cases: [LinkMessage, RegExp][] = [
      [said({ case: 'takenIn', value: { serial: 1n } }), /Hello/],
      [hello({ incarnation: new Uint8Array(3) }), /Hello\.incarnation/],
      [hello({ nextSerial: 2n ** 52n }), /Hello\.next_serial/],
      [
        said({
          case: 'propose',
          value: { serial: 1n, ids: [{ first: 0n, count: 2 ** 32 - 1, step: 1n }], sacrificed: 2 ** 32 - 2 },
        }),
        /Propose\.sacrificed/,
      ],
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
