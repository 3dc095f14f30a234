/** A C++ Dummy device (`dummyqkd`) as sites and other devices meet it, Alice or Bob, its mistakes as switches. */
import * as grpc from '@grpc/grpc-js'
import { StateCell } from '../base/cell.js'
import { systemClock, type Clock } from '../base/clock.js'
import { systemRandom } from '../base/random.js'
import { addServerStream, addUnary } from '../rpc/bridge.js'
import { Side_Type } from '../rpc/gen/cqp/remote/common_pb.js'
import { IDevice, LinkStatus_State } from '../rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../rpc/gen/cqp/remote/session_pb.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import { KeyCutter } from './dummy-key.js'
import type { DummyDeviceOptions, DummyFaults } from './dummy-options.js'
import { AliceRole, BobRole, type Role } from './dummy-roles.js'
import { DummyStatistics } from './dummy-statistics.js'
import { EventLog } from './event-log.js'
import { ReportServer } from './report-server.js'
import { bind, callUnary, dial, untilConnected } from './wire.js'

export type DummyEvent =
  | { event: 'registered' }
  | { event: 'session'; began: boolean; peer: string }
  | { event: 'frame'; frame: bigint; outcome: 'sifted' | 'dropped' }
  | { event: 'keys'; count: number }

export interface DummyDevice {
  readonly id: string
  readonly address: string
  readonly controlAddress: string
  readonly events: EventLog<DummyEvent>
  readonly faults: DummyFaults
  /** Every key cut so far, published or not, in order. */
  readonly keys: readonly Uint8Array[]
  readonly linkState: LinkStatus_State
  close(): Promise<void>
}

interface LinkState {
  readonly state: LinkStatus_State
  readonly errorCode: number
}

const forever = new Promise<never>(() => {})

class Dummy implements DummyDevice {
  readonly id: string
  readonly events = new EventLog<DummyEvent>()
  readonly faults: DummyFaults
  readonly keys: Uint8Array[] = []
  readonly #clock: Clock
  readonly #role: Role
  readonly #link: StateCell<LinkState>
  readonly #statistics: DummyStatistics
  readonly #reports: ReportServer
  readonly #cutter: KeyCutter
  readonly #stop = new AbortController()
  #server: grpc.Server | undefined
  #address = ''
  #pending: Uint8Array[] = []
  #writer: ((keys: Uint8Array[]) => Promise<unknown>) | undefined
  /** The channel to the peer; it outlives the session until EndSession, whatever address a later call names. */
  #peer: { client: grpc.Client; address: string } | undefined
  #session: AbortController | undefined
  #stuck = false

  constructor(private readonly options: DummyDeviceOptions) {
    const { side, bytesPerKey = 16, clock = systemClock } = options
    this.#clock = clock
    this.id = options.id ?? `dummyqkd__0__${bytesPerKey}_${side}`
    this.faults = {
      endSessionHangs: side === 'alice',
      secondStartSticks: side === 'bob',
      loseFrames: 0,
      corruptFrames: 0,
      ...options.faults,
    }
    this.#cutter = new KeyCutter(bytesPerKey)
    this.#link = new StateCell<LinkState>({ state: LinkStatus_State.Inactive, errorCode: 0 }, clock)
    this.#reports = new ReportServer(clock)
    this.#statistics = new DummyStatistics(this.#reports, clock)
    const context = {
      clock,
      random: options.random ?? systemRandom,
      faults: this.faults,
      statistics: this.#statistics,
      qubitsPerFrame: options.qubitsPerFrame ?? 100_000,
      frameMs: options.frameMs ?? 1_000,
      frameWaitMs: options.frameWaitMs ?? 500,
      onBlock: (block: Uint8Array) => this.#publish(block),
      onFrame: (frame: bigint, outcome: 'sifted' | 'dropped') => this.events.emit({ event: 'frame', frame, outcome }),
    }
    this.#role = side === 'alice' ? new AliceRole(context) : new BobRole(context)
  }

  get address(): string {
    return this.#address
  }

  get controlAddress(): string {
    return this.options.controlAddress ?? this.#address
  }

  get linkState(): LinkStatus_State {
    return this.#link.value.state
  }

  async start(): Promise<void> {
    const { host = '127.0.0.1', port = 0, siteAgent } = this.options
    // Between C++ devices messages are accepted up to 8 MiB.
    const server = new grpc.Server({ 'grpc.max_receive_message_length': 8 * 1024 * 1024 })
    const bound = await bind(server, `${host}:${port}`)
    this.#address = `${host}:${bound}`
    this.#server = server
    this.#serveDevice(server)
    this.#serveSession(server)
    this.#role.register(server)
    this.#reports.register(server)
    if (siteAgent !== undefined) void this.#register(siteAgent)
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#unregister()
    this.#session?.abort()
    this.#peer?.client.close()
    this.#server?.forceShutdown()
  }

  #serveDevice(server: grpc.Server): void {
    addServerStream(server, IDevice.method.waitForSession, async (_settings, stream) => {
      this.#writer = (keys) => stream.write({ keyData: keys })
      const mine = this.#writer
      await new Promise<void>((resolve) => stream.signal.addEventListener('abort', () => resolve(), { once: true }))
      if (this.#writer === mine) this.#writer = undefined
    })
    addUnary(server, IDevice.method.runSession, ({ peerAddress }) => this.#runSession(peerAddress))
    addUnary(server, IDevice.method.endSession, () => this.#endSession())
    addServerStream(server, IDevice.method.getLinkStatus, async (_request, stream) => {
      let turn: Promise<unknown> = stream.write(messageOf(this.#link.value))
      const stop = this.#link.subscribe((state) => (turn = turn.then(() => stream.write(messageOf(state)))))
      await new Promise<void>((resolve) => stream.signal.addEventListener('abort', () => resolve(), { once: true }))
      stop()
    })
    addUnary(server, IDevice.method.getDetails, () => this.#details())
  }

  #serveSession(server: grpc.Server): void {
    addUnary(server, ISession.method.sessionStarting, async ({ initiatorAddress }) => {
      if (this.#session !== undefined && this.faults.secondStartSticks) {
        this.#stuck = true
        return {}
      }
      await this.#connect(initiatorAddress)
      this.#begin(LinkStatus_State.SessionStarted)
      return {}
    })
    addUnary(server, ISession.method.sessionEnding, async () => {
      this.#finish()
      await this.#role.settle()
      return {}
    })
  }

  async #runSession(peerAddress: string): Promise<object> {
    if (peerAddress === '') throw new RpcError(grpc.status.UNKNOWN, '')
    await this.#connect(peerAddress)
    this.#link.set({ state: LinkStatus_State.Connected, errorCode: 0 })
    const client = this.#peer?.client ?? dial(peerAddress)
    try {
      await callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress: this.controlAddress })
    } catch (error) {
      const code = error instanceof RpcError ? error.code : grpc.status.UNKNOWN
      this.#link.set({ state: LinkStatus_State.Listening, errorCode: code })
      throw error
    }
    this.#begin(LinkStatus_State.SessionStarted)
    return {}
  }

  /** The channel is kept even where the peer was not reached: the next call goes on with the first address. */
  async #connect(address: string): Promise<void> {
    if (this.#peer !== undefined) return
    const client = dial(address.replace(/^\/\//, ''), { maxReceiveBytes: 8 * 1024 * 1024 })
    this.#peer = { client, address }
    if (!(await untilConnected(client, this.options.connectWaitMs ?? 10_000))) {
      this.#link.set({ state: LinkStatus_State.Listening, errorCode: grpc.status.DEADLINE_EXCEEDED })
      throw new RpcError(grpc.status.DEADLINE_EXCEEDED, 'Failed to connect to session controller')
    }
  }

  #begin(state: LinkStatus_State): void {
    const peer = this.#peer
    if (peer === undefined || this.#stuck) return
    this.#session?.abort()
    this.#session = new AbortController()
    this.#statistics.sessionBegan(peer.address)
    this.#link.set({ state, errorCode: 0 })
    this.events.emit({ event: 'session', began: true, peer: peer.address })
    this.#role.begin(peer.client, this.#session.signal)
  }

  #finish(): void {
    this.#stuck = false
    if (this.#session === undefined) return
    this.#session.abort()
    this.#session = undefined
    this.#statistics.sessionEnded()
    this.#link.set({ state: LinkStatus_State.Listening, errorCode: 0 })
    this.events.emit({ event: 'session', began: false, peer: this.#peer?.address ?? '' })
  }

  async #endSession(): Promise<object> {
    if (this.#session !== undefined && this.faults.endSessionHangs) return forever
    this.#finish()
    await this.#role.settle()
    const peer = this.#peer
    this.#peer = undefined
    if (peer !== undefined) {
      await callUnary(peer.client, ISession.method.sessionEnding, {}).catch(() => {})
      peer.client.close()
    }
    return {}
  }

  /** Kept while nobody waits for keys; then all comes with the first block after. */
  async #publish(block: Uint8Array): Promise<void> {
    const began = this.#clock.monotonicMs()
    const keys = this.#cutter.cut(block)
    this.keys.push(...keys)
    this.#pending.push(...keys)
    this.#statistics.ms('Privacy Amplification', 'TimeTaken', this.#clock.monotonicMs() - began)
    this.#statistics.count('Privacy Amplification', 'KeyEmitted', 1)
    this.#statistics.ms('Sifting', 'Publish Time', this.#clock.monotonicMs() - began)
    this.#statistics.count('Sifting', 'Bytes Produced', block.length)
    const writer = this.#writer
    if (writer === undefined) return
    const sending = this.#pending
    this.#pending = []
    await writer(sending)
    this.events.emit({ event: 'keys', count: sending.length })
  }

  #details() {
    const side = this.options.side === 'alice' ? Side_Type.Alice : Side_Type.Bob
    const config = { id: this.id, side, kind: 'dummyqkd' }
    return this.options.dialect === 'openqkd'
      ? { config, controlAddress: this.controlAddress }
      : { config, bindAddress: this.controlAddress }
  }

  /** A clean end of the program takes the registration back. */
  async #unregister(): Promise<void> {
    const { siteAgent } = this.options
    if (siteAgent === undefined) return
    const client = dial(siteAgent)
    await callUnary(client, ISiteAgent.method.unregisterDevice, { id: this.id }, 2_000).catch(() => {})
    client.close()
  }

  async #register(siteAgent: string): Promise<void> {
    const client = dial(siteAgent)
    try {
      while (!this.#stop.signal.aborted) {
        try {
          await callUnary(client, ISiteAgent.method.registerDevice, this.#details())
          this.events.emit({ event: 'registered' })
          return
        } catch {
          await new Promise<void>((resolve) => {
            const timer = this.#clock.after(this.options.registerRetryMs ?? 10_000, resolve)
            this.#stop.signal.addEventListener('abort', () => (timer.cancel(), resolve()), { once: true })
          })
        }
      }
    } finally {
      client.close()
    }
  }
}

function messageOf({ state, errorCode }: LinkState) {
  return { state, errorCode: BigInt(errorCode) }
}

/** Starts a Dummy device; resolves when it listens. */
export async function startDummyDevice(options: DummyDeviceOptions): Promise<DummyDevice> {
  const device = new Dummy(options)
  await device.start()
  return device
}
