/** Calls to the device at the other end, over gRPC. */
import { type ChannelCredentials, Metadata, status as Status } from '@grpc/grpc-js'
import { bidiStream, RpcError, unary } from '../rpc/bridge.js'
import { openChannel } from '../rpc/channel.js'
import { ISession } from '../rpc/gen/cqp/remote/session_pb.js'
import { Link } from '../rpc/gen/qkdgw/link/v1/link_pb.js'
import { type ChannelListener, createSendQueue, type LinkChannel } from './channel.js'
import type { PeerConnector } from './peer.js'

export interface PeerConnectorOptions {
  /** Plain text where absent; asked for at each connection. */
  readonly credentials?: () => ChannelCredentials | undefined
}

function metadataOf(values: ReadonlyMap<string, string>): Metadata {
  const metadata = new Metadata()
  for (const [name, value] of values) metadata.set(name, value)
  return metadata
}

/** The text of every name, lower-case; binary values are of no use here and left out. */
function textsOf(metadata: Metadata): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(metadata.getMap()).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
}

export function createPeerConnector(options: PeerConnectorOptions = {}): PeerConnector {
  return {
    async connect(address) {
      const credentials = options.credentials?.()
      const target = { address, what: 'peerAddress', ...(credentials === undefined ? {} : { credentials }) }
      const channel = await openChannel(target)
      const { client } = channel
      const closed = new AbortController()
      return {
        async sessionStarting({ parameters, initiatorAddress, metadata, timeoutMs, signal }) {
          const request = {
            initiatorAddress,
            details: {
              lineAttenuation: parameters.lineAttenuationDb,
              photonsPerBurst: parameters.photonsPerBurst,
              repitionRate: parameters.repetitionRateHz,
              initialKeyId: parameters.initialKeyId,
              parameters: [...parameters.parameters].map(([name, value]) => ({ name, value })),
            },
          }
          const call = { deadlineMs: timeoutMs, signal, metadata: metadataOf(metadata) }
          const { headers, trailers } = await unary(client, ISession.method.sessionStarting, request, call)
          return new Map([...textsOf(headers), ...textsOf(trailers)])
        },
        async sessionEnding(metadata, timeoutMs) {
          const call = { deadlineMs: timeoutMs, signal: closed.signal, metadata: metadataOf(metadata) }
          await unary(client, ISession.method.sessionEnding, {}, call)
        },
        openLink(metadata, attach) {
          const ended = new AbortController()
          const signal = AbortSignal.any([closed.signal, ended.signal])
          const call = bidiStream(client, Link.method.open, {
            deadlineMs: Infinity,
            signal,
            metadata: metadataOf(metadata),
          })
          const queue = createSendQueue(
            (message) => call.write(message),
            () => ended.abort(),
          )
          const link: LinkChannel = {
            send: (message) => queue.push(message),
            close(code) {
              if (code === Number(Status.OK)) {
                // What is queued (a Bye) still goes out.
                void queue.drained().then(() => {
                  queue.close()
                  call.end()
                })
              } else {
                queue.close()
                ended.abort()
              }
            },
          }
          const listener = attach(link)
          void pump(call, listener)
        },
        close() {
          closed.abort()
          void channel.close()
        },
      }
    },
  }
}

async function pump(
  messages: AsyncIterable<Parameters<ChannelListener['onMessage']>[0]>,
  listener: ChannelListener,
): Promise<void> {
  try {
    for await (const message of messages) listener.onMessage(message)
    listener.onClosed(Status.OK, 'closed by the other side')
  } catch (error) {
    if (error instanceof RpcError) listener.onClosed(error.code, error.details)
    else listener.onClosed(Status.UNKNOWN, String(error))
  }
}
