/**
 * CQPToolkit's own Clavis2 device as sites and other devices meet it: a gRPC device around a host program, its mistakes
 * included. It writes the initial key without the leading zeros of all bytes but the first, Alice repeats all earlier ids
 * with every message, and Bob gives an empty key out where his unit has none. Its host program runs in this process.
 */
import { createSocket } from 'node:dgram'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Server, type Client } from '@grpc/grpc-js'
import { EmulatedHost } from '../../../drivers/clavis2/emulator.js'
import { decodeResponse, encodeRequest } from '../../../drivers/clavis2/protocol.js'
import { sleep, systemClock as clock } from '../../../src/base/clock.js'
import { systemRandom as random } from '../../../src/base/random.js'
import { addClientStream, addServerStream, addUnary, clientStream } from '../../../src/rpc/bridge.js'
import { IIDQWrapper } from '../../../src/rpc/gen/cqp/remote/clavis_pb.js'
import { Side_Type } from '../../../src/rpc/gen/cqp/remote/common_pb.js'
import { IDevice, LinkStatus_State } from '../../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { ReportServer } from '../../../src/standin/report-server.js'
import { bind, callUnary, dial } from '../../../src/standin/wire.js'
import { onCleanup, tempFolder } from './lab.js'

export interface WrapperOptions {
  readonly side: 'alice' | 'bob'
  readonly id: string
  readonly kind: string
  readonly siteAgent: string
  readonly roundMs: number
}

export interface Clavis2Wrapper {
  /** The file that its host program reads. */
  readonly file: string
  /** How many ids it sent or took in, repetitions included. */
  readonly idsSeen: number
}

/** As the wrapper spells it. */
const spelt = (key: Uint8Array): string =>
  Array.from(key, (byte, i) =>
    byte
      .toString(16)
      .toUpperCase()
      .padStart(i === 0 ? 2 : 1, '0'),
  ).join('')

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

class Wrapper implements Clavis2Wrapper {
  readonly file = join(tempFolder(), 'vectis.conf')
  idsSeen = 0
  #host: EmulatedHost | undefined
  #give: (key: Uint8Array) => Promise<unknown> = async () => {}
  #installed: () => void = () => {}
  #session: AbortController | undefined

  constructor(private readonly options: WrapperOptions) {}

  async start(): Promise<void> {
    const { side, id, kind, siteAgent } = this.options
    const server = new Server()
    const address = `127.0.0.1:${await bind(server, '127.0.0.1:0')}`
    const details = {
      config: { id, kind, side: side === 'alice' ? Side_Type.Alice : Side_Type.Bob },
      bindAddress: address,
    }
    // What a second session brings comes before the first one's is read again: the key of the file is the latest.
    let installed = new Promise<void>((resolve) => (this.#installed = resolve))
    addServerStream(server, IDevice.method.waitForSession, async ({ initialKey }, stream) => {
      this.#give = (key) => stream.write({ keyData: [key] })
      writeFileSync(this.file, `[installation]\ninitial_secret_key = ${spelt(initialKey)}\n`, { mode: 0o600 })
      this.#installed()
      await aborted(stream.signal)
      installed = new Promise<void>((resolve) => (this.#installed = resolve))
    })
    const begin = (peerAddress: string): void => {
      const session = new AbortController()
      this.#session = session
      const peer = dial(peerAddress.replace(/^\/\//, ''))
      void installed.then(() => this.#run(peer, session.signal)).catch(() => {})
    }
    addUnary(server, ISession.method.sessionStarting, ({ initiatorAddress }) => {
      begin(initiatorAddress)
      return {}
    })
    addUnary(server, ISession.method.sessionEnding, () => {
      this.#session?.abort()
      return {}
    })
    addUnary(server, IDevice.method.runSession, async ({ peerAddress }) => {
      const peer = dial(peerAddress)
      await callUnary(peer, ISession.method.sessionStarting, { details: {}, initiatorAddress: address })
      peer.close()
      begin(peerAddress)
      return {}
    })
    addUnary(server, IDevice.method.endSession, () => {
      this.#session?.abort()
      return {}
    })
    addUnary(server, IDevice.method.getDetails, () => details)
    addServerStream(server, IDevice.method.getLinkStatus, async (_request, stream) => {
      await stream.write({ state: LinkStatus_State.Inactive, errorCode: 0n })
      await aborted(stream.signal)
    })
    new ReportServer(clock).register(server)
    addClientStream(server, IIDQWrapper.method.useKeyID, async (requests) => {
      for await (const { keyId } of requests) {
        this.idsSeen += keyId.length
        for (const one of keyId) await this.#give((await this.#ask(one)) ?? new Uint8Array(0))
      }
      return {}
    })
    onCleanup(() => {
      this.#session?.abort()
      server.forceShutdown()
    })
    const site = dial(siteAgent)
    await callUnary(site, ISiteAgent.method.registerDevice, details)
    site.close()
  }

  /** Runs the host program for a session; Alice gives keys out and tells Bob their numbers. */
  async #run(peer: Client, signal: AbortSignal): Promise<void> {
    const { side, roundMs } = this.options
    const host = new EmulatedHost({
      ...{ side, roundMs, installationFile: this.file, host: '127.0.0.1', port: 0, order: 'little' },
      ...{ keysPerRound: 4, epochMs: 0, clock, random, print: () => {}, exit: () => {} },
    })
    this.#host = host
    await host.start()
    signal.addEventListener('abort', () => host.stop(), { once: true })
    const stream =
      side === 'alice' ? clientStream(peer, IIDQWrapper.method.useKeyID, { deadlineMs: Infinity, signal }) : undefined
    const all: bigint[] = []
    while (stream !== undefined && !signal.aborted) {
      const key = await this.#ask(0n, (id) => all.push(id))
      if (key === undefined) await sleep(clock, roundMs, signal)
      else {
        this.idsSeen += all.length
        await stream.write({ keyId: [...all] })
        await this.#give(key)
      }
    }
    await aborted(signal)
    peer.close()
  }

  /** A new key (0) or the one of an id; undefined where there is none. */
  #ask(keyId: bigint, named: (id: bigint) => void = () => {}): Promise<Uint8Array | undefined> {
    const port = this.#host?.port ?? 0
    const socket = createSocket('udp4')
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(undefined), 5_000)
      const settle = (key: Uint8Array | undefined): void => {
        clearTimeout(timer)
        socket.close()
        resolve(key)
      }
      socket.once('error', reject)
      socket.once('message', (message) => {
        const answer = decodeResponse(message, 'little')
        if (!answer.ok || answer.value.error !== 'success') return settle(undefined)
        named(answer.value.keyId)
        settle(answer.value.key)
      })
      socket.send(encodeRequest({ keyId, keyLength: 32, requestId: 1, deviceId: 1 }, 'little'), port, '127.0.0.1')
    })
  }
}

/** Starts it; resolves once it is registered. */
export async function startClavis2Wrapper(options: WrapperOptions): Promise<Clavis2Wrapper> {
  const wrapper = new Wrapper(options)
  await wrapper.start()
  return wrapper
}
