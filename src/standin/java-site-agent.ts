/** OpenQKDNetwork's Java SiteAgent as peers meet it: most of its calls never answer, it forgets nothing, and never stops a link. */
import * as grpc from '@grpc/grpc-js'
import { createHash } from 'node:crypto'
import { clone, create, equals } from '@bufbuild/protobuf'
import type { Unsubscribe } from '../base/cell.js'
import { systemClock, type Clock } from '../base/clock.js'
import { addUnary, unary } from '../rpc/bridge.js'
import { ControlDetailsSchema, IDevice, type ControlDetails } from '../rpc/gen/cqp/remote/device_pb.js'
import {
  ISiteAgent,
  PhysicalPathSchema,
  SiteSchema,
  type PhysicalPath,
  type Site,
} from '../rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import { EventLog } from './event-log.js'
import { runJavaLinkCheck, type JavaLinkCheck } from './java-link-check.js'
import { JavaKeyFile, JavaReader, splitAtColon } from './java-reader.js'
import { KeyTransferClient } from './key-transfer.js'
import type { SiteAgentEvent, StepName } from './site-agent-events.js'
import { bind, callUnary, dial } from './wire.js'

export interface JavaSiteAgentOptions {
  readonly name: string
  readonly host?: string
  readonly port?: number
  readonly seat?: 'left' | 'right'
  /** Numbering of registrations: OpenQKDNetwork's, but upstream's on the branches `issue-22` and `issue-28-zp`. */
  readonly dialect?: 'upstream' | 'openqkd'
  /** Which of several registrations of one id is used: a set has no order. Default the first. */
  readonly picks?: 'first' | 'last'
  /** Each key goes there first, one call a key; without it they are only written down. */
  readonly keyTransferAddress?: string
  readonly linkCheck?: JavaLinkCheck
  /** How many events are remembered; default 100,000. */
  readonly keepEvents?: number
  readonly clock?: Clock
}

export interface StandinJavaSiteAgent {
  readonly name: string
  readonly address: string
  readonly url: string
  readonly events: EventLog<SiteAgentEvent>
  on(listener: (event: SiteAgentEvent) => void): Unsubscribe
  /** What the key file holds, by number from 1. */
  receivedKeys(): readonly Uint8Array[]
  /** Hex SHA-256 over the first `count` keys of the file; undefined while it holds fewer. */
  digest(count?: number): string | undefined
  /** Keys of the newest reader, in order of arrival. */
  sessionKeys(): readonly Uint8Array[]
  /** Keys that were not 32 bytes long. */
  malformedKeys(): number
  devices(): readonly { id: string; controlAddress: string }[]
  /** Readers that were started and whose streams have not ended. */
  openReaders(): number
  killStreams(): void
  readAgain(): void
  restart(downMs?: number): Promise<void>
  close(): Promise<void>
}

/** Of a call that is never answered nothing is kept once its caller has hung up. */
function noAnswer(caller: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const gone = (): void => reject(new RpcError(grpc.status.CANCELLED, ''))
    if (caller.aborted) gone()
    else caller.addEventListener('abort', gone, { once: true })
  })
}

class JavaSiteAgent implements StandinJavaSiteAgent {
  readonly name: string
  readonly events: EventLog<SiteAgentEvent>
  readonly #clock: Clock
  #server: grpc.Server | undefined
  #stop = new AbortController()
  #port: number
  #address = ''
  #devices: ControlDetails[] = []
  #readers = new Set<JavaReader>()
  #readersEver = 0
  #newest: JavaReader | undefined
  #file = new JavaKeyFile()
  #keyTransfer: KeyTransferClient | undefined

  constructor(private readonly options: JavaSiteAgentOptions) {
    this.name = options.name
    this.events = new EventLog(options.keepEvents)
    this.#clock = options.clock ?? systemClock
    this.#port = options.port ?? 0
  }

  get address(): string {
    return this.#address
  }

  get url(): string {
    return this.#address
  }

  async start(): Promise<void> {
    const { host = '127.0.0.1', keyTransferAddress, linkCheck } = this.options
    const server = new grpc.Server()
    this.#port = await bind(server, `${host}:${this.#port}`)
    this.#address = `${host}:${this.#port}`
    this.#server = server
    this.#stop = new AbortController()
    if (keyTransferAddress !== undefined) {
      this.#keyTransfer = new KeyTransferClient({ address: keyTransferAddress, clock: this.#clock })
    }
    this.#register(server)
    if (linkCheck !== undefined) void this.#checkLink(linkCheck)
    this.events.emit({ event: 'listening', site: this.name, address: this.#address, atMs: this.#clock.nowMs() })
  }

  on(listener: (event: SiteAgentEvent) => void): Unsubscribe {
    return this.events.on(listener)
  }

  receivedKeys(): readonly Uint8Array[] {
    return this.#file.keys
  }

  digest(count = this.#file.keys.length): string | undefined {
    const keys = this.#file.keys
    if (count > keys.length) return undefined
    const hash = createHash('sha256')
    for (const key of keys.slice(0, count)) hash.update(key)
    return hash.digest('hex')
  }

  sessionKeys(): readonly Uint8Array[] {
    return this.#newest?.keys ?? []
  }

  malformedKeys(): number {
    return this.#file.malformed
  }

  devices(): readonly { id: string; controlAddress: string }[] {
    return this.#devices.map((device) => ({ id: device.config?.id ?? '', controlAddress: this.#addressOf(device) }))
  }

  openReaders(): number {
    return this.#readers.size
  }

  killStreams(): void {
    for (const reader of this.#readers) reader.cut()
  }

  readAgain(): void {}

  async restart(downMs = 0): Promise<void> {
    await this.close()
    if (downMs > 0) await new Promise<void>((resolve) => void this.#clock.after(downMs, resolve))
    this.#devices = []
    this.#file = new JavaKeyFile()
    await this.start()
    this.events.emit({ event: 'restarted', site: this.name, address: this.#address, atMs: this.#clock.nowMs() })
  }

  async close(): Promise<void> {
    this.#stop.abort()
    for (const reader of this.#readers) reader.close()
    this.#readers.clear()
    this.#keyTransfer?.close()
    this.#server?.forceShutdown()
    this.#server = undefined
  }

  #register(server: grpc.Server): void {
    const agent = ISiteAgent.method
    addUnary(server, agent.registerDevice, (details, { signal }) => {
      // A set of equal values: the same again changes nothing, a changed one stands beside the old one.
      if (!this.#devices.some((known) => equals(ControlDetailsSchema, known, details))) {
        this.#devices.push(clone(ControlDetailsSchema, details))
      }
      this.#step(this.options.seat === 'right' ? 2 : 1, 'RegisterDevice', details.config?.id ?? '')
      return noAnswer(signal)
    })
    addUnary(server, agent.unregisterDevice, ({ id }, { signal }) => {
      this.#note(`UnregisterDevice ${id}: nothing is removed`)
      return noAnswer(signal)
    })
    addUnary(server, agent.endKeyExchange, (_path, { signal }) => noAnswer(signal))
    addUnary(server, agent.getSiteDetails, () => this.#details())
    addUnary(server, agent.startNode, (path, { signal }) => this.#startNode(path, signal))
  }

  async #startNode(path: PhysicalPath, caller: AbortSignal): Promise<never> {
    try {
      for (const hop of path.hops) {
        if (hop.first?.site === this.url) await this.#startLeft(path, caller)
        else if (hop.second?.site === this.url) await this.#startRight(hop.second.deviceId, path)
        else this.#note(`${this.url} is neither end of the hop: nothing is done`)
      }
    } catch (error) {
      if (caller.aborted) return noAnswer(caller)
      this.#note(`StartNode failed: ${String(error)}`)
      // What its own exceptions become on the wire: no text.
      throw new RpcError(grpc.status.UNKNOWN, '')
    }
    return noAnswer(caller)
  }

  async #startLeft(path: PhysicalPath, caller: AbortSignal): Promise<void> {
    const hop = path.hops.find(({ first }) => first?.site === this.url)
    const deviceId = hop?.first?.deviceId ?? ''
    this.#step(3, 'StartNode', deviceId)
    const address = this.#find(deviceId)
    this.#read(deviceId, address, 4)
    const forwarded = clone(PhysicalPathSchema, path)
    for (const pair of forwarded.hops) if (pair.first?.site === this.url) pair.first.deviceAddress = address
    this.#step(5, 'StartNode', deviceId)
    const client = dial(splitAtColon(hop?.second?.site ?? ''))
    try {
      // Answered only where it fails; nothing is left to wait for once our own caller has hung up.
      await unary(client, ISiteAgent.method.startNode, forwarded, { deadlineMs: Infinity, signal: caller })
    } finally {
      client.close()
    }
  }

  async #startRight(deviceId: string, path: PhysicalPath): Promise<void> {
    const hop = path.hops.find(({ second }) => second?.site === this.url)
    const address = this.#find(deviceId)
    this.#read(deviceId, address, 6)
    this.#step(7, 'RunSession', deviceId)
    const client = dial(splitAtColon(address))
    try {
      const peerAddress = hop?.first?.deviceAddress ?? ''
      await callUnary(client, IDevice.method.runSession, { details: hop?.params ?? {}, peerAddress })
    } finally {
      client.close()
    }
  }

  /** One more reader at each start; earlier ones stay. */
  #read(deviceId: string, address: string, step: 4 | 6): void {
    this.#step(step, 'WaitForSession', deviceId)
    this.#readersEver += 1
    const number = this.#readersEver
    let reader: JavaReader
    try {
      reader = new JavaReader({
        deviceId,
        address,
        file: this.#file,
        keyTransfer: this.#keyTransfer,
        onKeys: (batch) => {
          const count = this.#file.keys.length
          const digest = this.digest() ?? ''
          this.events.emit({
            event: 'keys',
            site: this.name,
            store: deviceId,
            batch,
            count,
            digest,
            reader: number,
            atMs: this.#nowMs(),
          })
        },
        onEnded: (code, details) => {
          this.#readers.delete(reader)
          reader.close()
          this.events.emit({ event: 'stream-ended', site: this.name, deviceId, code, details, atMs: this.#nowMs() })
        },
        onNote: (text) => this.#note(text),
      })
    } catch (error) {
      // An exception in the reader's own thread: nobody hears of it.
      this.#note(`reader of ${deviceId}: ${String(error)}`)
      return
    }
    this.#readers.add(reader)
    this.#newest = reader
  }

  async #checkLink(check: JavaLinkCheck): Promise<void> {
    const path = create(PhysicalPathSchema, {
      hops: [
        {
          first: { site: this.url, deviceId: check.localDeviceId },
          second: { site: check.otherSite, deviceId: check.remoteDeviceId },
        },
      ],
    })
    await runJavaLinkCheck({
      check,
      clock: this.#clock,
      signal: this.#stop.signal,
      own: () => this.#details(),
      controlAddressOf: (site, id) => {
        const device = site.devices.find(({ config }) => config?.id === id)
        return device === undefined ? undefined : this.#addressOf(device)
      },
      startNode: () => this.#startNode(path, this.#stop.signal),
      forget: (id) => {
        this.#note(`${id} does not answer: forgotten`)
        this.#devices = this.#devices.filter(({ config }) => config?.id !== id)
      },
      onNote: (text) => this.#note(text),
    })
  }

  #details(): Site {
    return create(SiteSchema, { url: this.url, devices: this.#devices })
  }

  #find(deviceId: string): string {
    const all = this.#devices.filter(({ config }) => config?.id === deviceId)
    const picked = this.options.picks === 'last' ? all.at(-1) : all[0]
    if (picked === undefined) throw new RpcError(grpc.status.UNKNOWN, `device ${deviceId} is not registered`)
    return this.#addressOf(picked)
  }

  #addressOf(details: ControlDetails): string {
    return this.options.dialect === 'upstream' ? details.bindAddress : details.controlAddress
  }

  #step(step: 1 | 2 | 3 | 4 | 5 | 6 | 7, name: StepName, deviceId: string): void {
    this.events.emit({ event: 'step', step, name, site: this.name, deviceId, atMs: this.#nowMs() })
  }

  #note(text: string): void {
    this.events.emit({ event: 'note', site: this.name, text, atMs: this.#nowMs() })
  }

  #nowMs(): number {
    return this.#clock.nowMs()
  }
}

/** Starts a Java SiteAgent; resolves when it listens. */
export async function startJavaSiteAgent(options: JavaSiteAgentOptions): Promise<StandinJavaSiteAgent> {
  const agent = new JavaSiteAgent(options)
  await agent.start()
  return agent
}
