/** Plays everybody of the recorded session but one device, and writes down what that device sends. */
import { Server, status } from '@grpc/grpc-js'
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import { systemClock } from '../../../src/base/clock.js'
import { addUnary, rpcError, serverStream } from '../../../src/rpc/bridge.js'
import { DeviceIDSchema } from '../../../src/rpc/gen/cqp/remote/common_pb.js'
import { IDetector, IPhotonSim } from '../../../src/rpc/gen/cqp/remote/detector_pb.js'
import { ControlDetailsSchema, IDevice, type ControlDetails } from '../../../src/rpc/gen/cqp/remote/device_pb.js'
import { IKey } from '../../../src/rpc/gen/cqp/remote/keys_pb.js'
import { IReporting, SiteAgentReportSchema } from '../../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISession, SessionDetailsFromSchema } from '../../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISift, type AnswersByFrame, type BasisBySiftFrame } from '../../../src/rpc/gen/cqp/remote/sift_pb.js'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { UpstreamControlDetailsSchema } from '../../../src/rpc/gen/qkdgw/dialect/v1/control_details_pb.js'
import { EventLog } from '../../../src/standin/event-log.js'
import { KeyStoreFigures, ReportServer } from '../../../src/standin/report-server.js'
import { bind, callUnary, dial } from '../../../src/standin/wire.js'
import { recordedAddresses } from './recording.js'
import { treeOf, type Tree } from './text-form.js'
import type { Seat, Trace, TraceItem } from './trace.js'

export interface SeatPlayer {
  /** The SiteAgent that the device is to register with. */
  readonly siteAgentAddress: string
  /** Plays a session of `frames` whole frames and one cut short; then `end` must make the device leave. */
  play(frames: number, end: () => Promise<void>): Promise<Trace>
  close(): void
}

/** What a device reports last of a block. */
const lastFigure = 'figure Sifting/Bytes Produced'

interface Open {
  toSite: TraceItem[]
  toPeer: TraceItem[]
  answers: Record<string, TraceItem[]>
  keys: TraceItem[]
  statistics: TraceItem[]
}

/** Frames of 100,000 qubits take long on a machine that has much else to do. */
const soon = (): AbortSignal => AbortSignal.timeout(60_000)

export async function startSeatPlayer(seat: Seat): Promise<SeatPlayer> {
  const site = new Server()
  const peer = new Server({ 'grpc.max_receive_message_length': 8 * 1024 * 1024 })
  const player = new Player(seat)
  player.serveSite(site)
  player.servePeer(peer)
  const siteAgentAddress = `127.0.0.1:${await bind(site, '127.0.0.1:0')}`
  const peerAddress = `127.0.0.1:${await bind(peer, '127.0.0.1:0')}`
  return {
    siteAgentAddress,
    play: (frames, end) => player.play(siteAgentAddress, peerAddress, frames, end),
    close() {
      player.close()
      site.forceShutdown()
      peer.forceShutdown()
    },
  }
}

class Player {
  readonly #trace: Open = { toSite: [], toPeer: [], answers: {}, keys: [], statistics: [] }
  /** Methods that the device called, for waiting. */
  readonly #calls = new EventLog<string>()
  readonly #registered: ControlDetails[] = []
  /** What it asks its site beyond what the recorded device asks. */
  readonly #further = new Set<string>()
  /** The site tells what it takes in, as a C++ one. */
  readonly #reports = new ReportServer(systemClock)
  readonly #figures = new KeyStoreFigures(0n, {}, systemClock, (report) => this.#reports.publish(report))
  #received = 0
  #renamed: [string, string][] = []
  #device: ReturnType<typeof dial> | undefined
  #asPeer: ReturnType<typeof dial> | undefined
  #photons: readonly number[] = []
  #frame = 0
  #controlAddress = ''

  constructor(private readonly seat: Seat) {}

  close(): void {
    this.#device?.close()
    this.#asPeer?.close()
  }

  serveSite(server: Server): void {
    addUnary(server, ISiteAgent.method.registerDevice, (details) => {
      this.#registered.push(details)
      const upstream = fromBinary(UpstreamControlDetailsSchema, toBinary(ControlDetailsSchema, details))
      this.#controlAddress = upstream.controlAddress
      this.#renamed.push([upstream.controlAddress, recordedAddresses[this.seat]])
      this.#site('ISiteAgent/RegisterDevice', UpstreamControlDetailsSchema, upstream)
      return {}
    })
    addUnary(server, ISiteAgent.method.unregisterDevice, (id) => {
      this.#site('ISiteAgent/UnregisterDevice', DeviceIDSchema, id)
      if (this.#registered.pop() === undefined) throw rpcError(status.NOT_FOUND, 'Device not registered')
      return {}
    })
    addUnary(server, ISiteAgent.method.getSiteDetails, () => {
      this.#further.add('ISiteAgent/GetSiteDetails')
      return { url: recordedAddresses.SiteA, devices: this.#registered }
    })
    addUnary(server, IKey.method.getKeyStores, () => {
      this.#further.add('IKey/GetKeyStores')
      return {}
    })
    this.#reports.register(server)
  }

  servePeer(server: Server): void {
    addUnary(server, IDetector.method.startDetecting, () => this.#toPeer('IDetector/StartDetecting'))
    addUnary(server, IPhotonSim.method.onPhoton, (detection) => {
      this.#photons = detection.values?.qubits ?? []
      const summary = `FakeDetection period=${detection.periodPicoseconds} qubits=${this.#photons.length}`
      return this.#toPeer('IPhotonSim/OnPhoton', { summary })
    })
    addUnary(server, IDetector.method.stopDetecting, () => {
      const answer = this.#toPeer('IDetector/StopDetecting')
      // The player's Bob measures all as it was sent, and asks about the frame.
      void this.#verify(this.#photons).catch((error: unknown) => {
        this.#answer('ISift/VerifyBases', { summary: String(error) })
      })
      return answer
    })
    addUnary(server, ISession.method.sessionStarting, (from) =>
      this.#toPeer('ISession/SessionStarting', { fields: this.#rename(treeOf(SessionDetailsFromSchema, from)) }),
    )
    addUnary(server, ISession.method.sessionEnding, () => this.#toPeer('ISession/SessionEnding'))
    addUnary(server, ISift.method.verifyBases, (question) => {
      this.#toPeer('ISift/VerifyBases', { summary: summaryOfBasis(question) })
      const answers = Object.fromEntries(
        Object.entries(question.basis).map(([frame, list]) => [frame, { answers: list.indexedBasis.map(() => true) }]),
      )
      return { answers }
    })
  }

  async play(site: string, peer: string, frames: number, end: () => Promise<void>): Promise<Trace> {
    const other = this.seat === 'Alice' ? 'Bob' : 'Alice'
    this.#renamed.push([peer, recordedAddresses[other]])
    this.#renamed.push([site, recordedAddresses[this.seat === 'Alice' ? 'SiteA' : 'SiteB']])
    await this.#calls.until((method) => method === 'ISiteAgent/RegisterDevice', soon())
    this.#device = dial(this.#controlAddress)
    this.#asPeer = dial(this.#controlAddress, { maxReceiveBytes: 8 * 1024 * 1024 })
    const stop = new AbortController()
    if (this.seat === 'Alice') await this.#playToAlice(peer, frames, stop)
    else await this.#playToBob(peer, frames, stop)
    // Statistics of the SiteAgent that are followed while the session runs.
    if (this.#reports.listenerCount > 0) this.#further.add('IReporting/GetStatistics')
    await end()
    await this.#calls.until((method) => method === 'ISiteAgent/UnregisterDevice', soon())
    return { ...this.#trace, further: [...this.#further].sort() }
  }

  async #playToAlice(peer: string, frames: number, stop: AbortController): Promise<void> {
    this.#stream(stop.signal)
    await this.#unary('ISession/SessionStarting', true, ISession.method.sessionStarting, {
      details: {},
      initiatorAddress: peer,
    })
    await this.#answered('ISift/VerifyBases', frames)
    // Keys and figures come on other connections than the answers.
    await this.#nth('keys', frames)
    await this.#nth(lastFigure, frames)
    // From here on there is the length of a frame to cut it short.
    await this.#nth('IPhotonSim/OnPhoton', frames + 1)
    stop.abort()
    await this.#unary('IDevice/EndSession', false, IDevice.method.endSession, {})
    await this.#answered('ISift/VerifyBases', frames + 1)
    await this.#unary('IDevice/EndSession', false, IDevice.method.endSession, {})
    await this.#unary('ISession/SessionEnding', true, ISession.method.sessionEnding, {})
  }

  async #playToBob(peer: string, frames: number, stop: AbortController): Promise<void> {
    const running = this.#unary('IDevice/RunSession', false, IDevice.method.runSession, {
      details: {},
      peerAddress: peer,
    })
    this.#stream(stop.signal)
    await running
    const photons = Array.from({ length: 100_000 }, (_, index) => (index * 7 + (index >> 3)) & 3)
    for (let frame = 0; frame <= frames; frame += 1) {
      await this.#unary('IDetector/StartDetecting', true, IDetector.method.startDetecting, {})
      await this.#unary('IPhotonSim/OnPhoton', true, IPhotonSim.method.onPhoton, {
        periodPicoseconds: 10_000_000n,
        values: { qubits: photons },
      })
      await this.#unary('IDetector/StopDetecting', true, IDetector.method.stopDetecting, {})
      if (frame < frames) await this.#nth('ISift/VerifyBases', frame + 1)
    }
    await this.#unary('ISession/SessionEnding', true, ISession.method.sessionEnding, {})
    // A statistic of the session's end follows; then the site hangs up.
    await this.#nth('keys', frames + 1)
    await this.#nth('figure ', 1)
    stop.abort()
    await this.#unary('IDevice/EndSession', false, IDevice.method.endSession, {})
    await this.#unary('IDevice/EndSession', false, IDevice.method.endSession, {})
  }

  #stream(signal: AbortSignal): void {
    const options = { deadlineMs: Infinity, signal }
    const device = this.#client(false)
    const keys = async (): Promise<void> => {
      for await (const { keyData } of serverStream(device, IDevice.method.waitForSession, {}, options)) {
        const sizes = [...new Set(keyData.map(({ length }) => length))]
        const summary = `RawKeys: ${keyData.length} keys, sizes [${sizes.join(', ')}]`
        this.#trace.keys.push({ method: 'IDevice/WaitForSession', summary })
        this.#received += keyData.length
        this.#figures.received(keyData.length, this.#received, 0)
        this.#calls.emit('keys')
      }
    }
    const statistics = async (): Promise<void> => {
      const filter = { listIsExclude: true }
      for await (const report of serverStream(device, IReporting.method.getStatistics, filter, options)) {
        const fields = this.#rename(treeOf(SiteAgentReportSchema, report))
        this.#trace.statistics.push({ method: 'IReporting/GetStatistics', fields })
        this.#calls.emit(`figure ${report.path.join('/')}`)
      }
    }
    keys().catch(() => {})
    statistics().catch(() => {})
  }

  async #verify(photons: readonly number[]): Promise<void> {
    const frame = String(this.#frame)
    this.#frame += 1
    const indexedBasis = photons.map((qubit, index) => ({ index: BigInt(index), basis: qubit & 6 }))
    const answer = await callUnary(this.#client(true), ISift.method.verifyBases, {
      basis: { [frame]: { indexedBasis } },
    })
    this.#answer('ISift/VerifyBases', { summary: summaryOfAnswers(answer), status: 0 })
  }

  async #unary<I extends DescMessage, O extends DescMessage>(
    name: string,
    asPeer: boolean,
    ...call: [Parameters<typeof callUnary<I, O>>[1], Parameters<typeof callUnary<I, O>>[2]]
  ): Promise<void> {
    await callUnary(this.#client(asPeer), ...call, 30_000)
    this.#answer(name, { fields: {}, status: 0 })
  }

  #client(asPeer: boolean): ReturnType<typeof dial> {
    const client = asPeer ? this.#asPeer : this.#device
    if (client === undefined) throw new Error('the device has not registered')
    return client
  }

  #answer(method: string, item: Omit<TraceItem, 'method'>): void {
    ;(this.#trace.answers[method] ??= []).push({ method, ...item })
    this.#calls.emit(`answered ${method}`)
  }

  #site<D extends DescMessage>(method: string, schema: D, message: MessageShape<D>): void {
    this.#trace.toSite.push({ method, fields: this.#rename(treeOf(schema, message)) })
    this.#calls.emit(method)
  }

  #toPeer(
    method: string,
    item: Omit<TraceItem, 'method'> = { fields: treeOf(EmptySchema, { $typeName: 'google.protobuf.Empty' }) },
  ): object {
    this.#trace.toPeer.push({ method, ...item })
    this.#calls.emit(method)
    return {}
  }

  async #nth(method: string, count: number): Promise<void> {
    let seen = 0
    await this.#calls.until((called) => called === method && ++seen === count, soon())
  }

  #answered(method: string, count: number): Promise<void> {
    return this.#nth(`answered ${method}`, count)
  }

  /** Real addresses become those of the recording. */
  #rename(tree: Tree): Tree {
    let text = JSON.stringify(tree)
    for (const [from, to] of this.#renamed) if (from !== '') text = text.replaceAll(`"${from}"`, `"${to}"`)
    return JSON.parse(text) as Tree
  }
}

function summaryOfBasis({ basis }: BasisBySiftFrame): string {
  return Object.values(basis)
    .map(({ indexedBasis }) => {
      const values = [...new Set(indexedBasis.map((entry) => entry.basis as number))].sort()
      const [first, last] = [indexedBasis[0]?.index, indexedBasis.at(-1)?.index]
      return `BasisBySiftFrame frame: ${indexedBasis.length} idx ${first}..${last} basis values [${values.join(', ')}]`
    })
    .join()
}

function summaryOfAnswers({ answers }: AnswersByFrame): string {
  return Object.values(answers)
    .map((frame) => {
      const agreed = frame.answers.filter(Boolean).length
      return `AnswersByFrame frame: ${frame.answers.length} answers ${agreed} true, intensity ${frame.intensity.length}`
    })
    .join()
}
