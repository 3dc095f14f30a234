/** Carries the calls of a device that makes keys in pairs over to its peer, and the link's sessions to the device. */
import { Metadata, type ChannelCredentials } from '@grpc/grpc-js'
import { parseHostPort } from '../base/host-port.js'
import { PairCallError, type PairControl, type PairDevice, type PairPeer } from '../device/pair-contract.js'
import type { AgreedLink } from '../link/link.js'
import type { PairHooks, PairSessionInfo } from '../link/pair-hooks.js'
import type { Logger } from '../observe/log.js'
import { openChannel, type Channel } from '../rpc/channel.js'
import { createPairClient } from '../rpc/pair-client.js'
import type { PairPort } from '../rpc/pair-port.js'

/** The services of the device as gRPC asks for them, while a session runs: the shapes are the same, nothing is translated. */
export function pairSource(device: PairDevice, link: AgreedLink): () => PairPort | undefined {
  return () => {
    const { state } = link.session.value
    return state === 'none' ? undefined : device.pair.services
  }
}

function metadataOf(values: ReadonlyMap<string, string>): Metadata {
  const metadata = new Metadata()
  for (const [name, value] of values) metadata.set(name, value)
  return metadata
}

class PairSessions implements PairHooks {
  #channel: Channel | undefined
  /** What the last session still has under way. */
  #ended: Promise<void> = Promise.resolve()

  constructor(
    private readonly control: PairControl,
    private readonly credentials: () => ChannelCredentials | undefined,
    private readonly log: Logger,
  ) {}

  async prepare(session: PairSessionInfo): Promise<void> {
    await this.#ended
    await this.#channel?.close()
    const credentials = this.credentials()
    const channel = await openChannel({
      address: session.peerAddress,
      what: 'peerAddress',
      ...(credentials === undefined ? {} : { credentials }),
    })
    this.#channel = channel
    const peer: PairPeer = createPairClient({
      client: channel.client,
      failure: (status, message) => new PairCallError(status, message),
      metadata: () => metadataOf(session.metadata()),
    })
    await this.control.prepare({
      peer,
      peerHost: parseHostPort(session.peerAddress, 'peerAddress').host,
      lineAttenuationDb: session.parameters.lineAttenuationDb,
      initialKey: (signal) => session.initialKey(signal),
      fail: (error) => session.fail(error),
    })
  }

  start(ordering: 'byId' | 'byArrival'): void {
    this.log.info(
      ordering === 'byId'
        ? 'the peer is a gateway: keys are released by number, equal at both sites'
        : 'the peer is no gateway: keys are delivered as they arise, and agreement is only as good as the peer',
    )
    this.control.start(ordering)
  }

  quiesce(): Promise<void> {
    return this.control.quiesce()
  }

  end(): Promise<void> {
    const channel = this.#channel
    this.#channel = undefined
    this.#ended = this.control.end().finally(() => channel?.close())
    return this.#ended
  }
}

export function pairHooksOf(
  device: PairDevice,
  credentials: () => ChannelCredentials | undefined,
  log: Logger,
): PairHooks {
  return new PairSessions(device.pair, credentials, log)
}
