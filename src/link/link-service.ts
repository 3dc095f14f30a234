/** Serves `qkdgw.link.v1.Link` to the initiator of the running session. */
import { type Server, status as Status } from '@grpc/grpc-js'
import { addBidi, type HandlerOptions, rpcError } from '../rpc/bridge.js'
import { Link as LinkServiceDescription } from '../rpc/gen/qkdgw/link/v1/link_pb.js'
import { callContext } from '../rpc/guard.js'
import type { CallContext } from '../rpc/device-port.js'
import { type ChannelListener, createSendQueue, type LinkChannel } from './channel.js'

/** Names of what this service adds, for health and reflection. */
export const LINK_SERVICES = { names: [LinkServiceDescription.typeName], files: [LinkServiceDescription.file] }

export interface LinkAcceptor {
  /**
   * Takes over the link of the running session. Throws an UNAUTHENTICATED `RpcError` for a caller that is not that
   * session's initiator, and changes nothing then.
   */
  acceptLink(call: CallContext, channel: LinkChannel): ChannelListener
}

/** Registers the service on a grpc-js server: `deviceServer.addServices((server, options) => addLinkService(server, link, options))`. */
export function addLinkService(server: Server, link: LinkAcceptor, options: HandlerOptions = {}): void {
  addBidi(
    server,
    LinkServiceDescription.method.open,
    async (messages, context) => {
      let finish: (() => void) | undefined
      let ending: { code: number; reason: string } | undefined
      const finished = new Promise<void>((resolve) => (finish = resolve))
      const queue = createSendQueue(
        (message) => context.write(message),
        () => channel.close(Status.RESOURCE_EXHAUSTED, 'the other side does not read'),
      )
      const channel: LinkChannel = {
        send: (message) => queue.push(message),
        close(code, reason) {
          ending ??= { code, reason }
          if (code === Number(Status.OK)) void queue.drained().then(() => finish?.())
          else finish?.()
        },
      }
      const listener = link.acceptLink(callContext(context), channel)
      const read = async (): Promise<void> => {
        try {
          for await (const message of messages) {
            if (ending !== undefined) return
            listener.onMessage(message)
          }
          finish?.()
        } catch {
          // The caller hung up; its signal tells.
          finish?.()
        }
      }
      void read()
      context.signal.addEventListener('abort', () => finish?.(), { once: true })
      await finished
      queue.close()
      listener.onClosed(ending?.code ?? Status.CANCELLED, ending?.reason ?? 'closed by the other side')
      if (ending !== undefined && ending.code !== Number(Status.OK)) throw rpcError(ending.code, ending.reason)
    },
    options,
  )
}
