/** A device in use at a C++ SiteAgent: its two reader threads, its session, and how both are ended. */
import type * as grpc from '@grpc/grpc-js'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import { IDevice, type RawKeysSchema } from '../rpc/gen/cqp/remote/device_pb.js'
import { IReporting, type SiteAgentReport } from '../rpc/gen/cqp/remote/reporting_pb.js'
import type { SessionDetailsSchema } from '../rpc/gen/cqp/remote/session_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import type { CppFaults, RightCall } from './cpp-options.js'
import { serverStream, type ServerStreamCall } from '../rpc/bridge.js'
import { callUnary, dial, untilConnected } from './wire.js'

export interface DeviceSessionOptions {
  readonly deviceId: string
  /** Control address as the device registered it. */
  readonly address: string
  readonly clientCredentials?: grpc.ChannelCredentials
  readonly connectWaitMs: number
  readonly initialKey: Uint8Array
  readonly faults: CppFaults
  readonly clock: Clock
  readonly random: Random
  /** Called for each message in turn; the next one is read when it settles. */
  readonly takeIn: (keys: readonly Uint8Array[]) => Promise<void>
  readonly onReport: (report: SiteAgentReport) => void
  readonly onCall: (name: RightCall) => void
  readonly onAnswer: (name: string, code: number, details: string) => void
  readonly onStreamEnded: (code: number, details: string) => void
}

export class DeviceSession {
  readonly deviceId: string
  readonly address: string
  readonly #client: grpc.Client
  readonly #cancel = new AbortController()
  #runs: Promise<void> | undefined
  #wakeReader: (() => void) | undefined

  constructor(private readonly options: DeviceSessionOptions) {
    this.deviceId = options.deviceId
    this.address = options.address
    this.#client = dial(options.address, {
      ...(options.clientCredentials === undefined ? {} : { credentials: options.clientCredentials }),
    })
  }

  /** Waits for the device, at most the original's 10 s, and goes on as if connected. */
  async connect(): Promise<void> {
    await untilConnected(this.#client, this.options.connectWaitMs)
  }

  /** Makes the calls of one start in this order. RunSession is the only one whose answer is waited for, by `ran`. */
  async start(
    order: readonly RightCall[],
    details: MessageInitShape<typeof SessionDetailsSchema>,
    peerAddress: string,
  ): Promise<void> {
    for (const name of order) {
      this.options.onCall(name)
      if (name === 'WaitForSession') this.#waitForSession()
      else if (name === 'GetStatistics') this.#getStatistics()
      else this.#runs = this.#runSession(details, peerAddress)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** Resolves when RunSession was answered, whatever the answer: the status is ignored. */
  async ran(): Promise<void> {
    await this.#runs
  }

  /** Cuts both streams as a dying process or a cut tunnel does, without a word to the device. */
  cut(): void {
    this.#cancel.abort()
    this.#wakeReader?.()
  }

  /** EndKeyExchange: cancels both streams, then EndSession, twice, each waited for without a deadline. */
  async stop(): Promise<void> {
    this.cut()
    for (let time = 0; time < 2; time += 1) {
      await callUnary(this.#client, IDevice.method.endSession, {}).then(
        () => this.options.onAnswer('EndSession', 0, ''),
        (error: unknown) => this.#answered('EndSession', error),
      )
    }
    this.close()
  }

  close(): void {
    this.cut()
    this.#client.close()
  }

  /** The switch `readsNothing` was changed. */
  readsAgain(): void {
    this.#wakeReader?.()
  }

  #waitForSession(): void {
    const { initialKey } = this.options
    const call = serverStream(this.#client, IDevice.method.waitForSession, { initialKey }, this.#streamOptions())
    void this.#read(call)
    void call.status.then(({ code, details }) => this.options.onStreamEnded(code, details))
  }

  /** One message at a time, as a blocking reader: what follows waits in the transport. */
  async #read(call: ServerStreamCall<typeof RawKeysSchema>): Promise<void> {
    const { faults, takeIn } = this.options
    const messages = call[Symbol.asyncIterator]()
    try {
      for (;;) {
        while (faults.readsNothing && !this.#cancel.signal.aborted) await this.#untilWoken()
        const next = await messages.next()
        if (next.done === true) return
        await this.#pause(faults.readDelayMs)
        if (this.#cancel.signal.aborted) return
        await this.#pause(faults.storeDelayMs)
        await takeIn(next.value.keyData)
      }
    } catch (error) {
      // How the stream ended is told by its status.
      if (!(error instanceof RpcError)) throw error
    }
  }

  #getStatistics(): void {
    const call = serverStream(
      this.#client,
      IReporting.method.getStatistics,
      { listIsExclude: true },
      this.#streamOptions(),
    )
    const forward = async (): Promise<void> => {
      for await (const report of call) this.options.onReport(report)
    }
    void forward().then(
      () => this.options.onAnswer('GetStatistics', 0, ''),
      (error: unknown) => this.#answered('GetStatistics', error),
    )
  }

  #streamOptions(): { deadlineMs: number; signal: AbortSignal } {
    return { deadlineMs: Infinity, signal: this.#cancel.signal }
  }

  #untilWoken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeReader = resolve
    })
  }

  #runSession(details: MessageInitShape<typeof SessionDetailsSchema>, peerAddress: string): Promise<void> {
    return callUnary(this.#client, IDevice.method.runSession, { details, peerAddress }).then(
      () => this.options.onAnswer('RunSession', 0, ''),
      (error: unknown) => this.#answered('RunSession', error),
    )
  }

  #answered(name: string, error: unknown): void {
    if (error instanceof RpcError) this.options.onAnswer(name, error.code, error.details)
    else throw error
  }

  #pause(delayMs: number): Promise<void> {
    if (delayMs <= 0) return Promise.resolve()
    return new Promise((resolve) => void this.options.clock.after(delayMs, resolve))
  }
}

/** A random order of `calls`. */
export function shuffled<T>(calls: readonly T[], random: Random): readonly T[] {
  return calls
    .map((call) => ({ call, rank: random.fraction() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ call }) => call)
}
