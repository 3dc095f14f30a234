import { create } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import type { Server } from '@grpc/grpc-js'
import type { Logger } from '../../observe/log.js'
import { addServerStream, addUnary, type HandlerOptions } from '../bridge.js'
import { checkAddress, checkDetails, takeInitialKey } from '../checks.js'
import { controlDetails, type DeviceDetails } from '../details.js'
import type { DevicePort, LinkStatusValue } from '../device-port.js'
import { IDevice, LinkStatus_State, LinkStatusSchema } from '../gen/cqp/remote/device_pb.js'
import { ISession } from '../gen/cqp/remote/session_pb.js'
import { callContext } from '../guard.js'
import { createKeyStream } from '../key-stream.js'

export interface DeviceServiceOptions {
  readonly port: DevicePort
  /** What the device registers with, at this moment. */
  readonly details: () => DeviceDetails
  readonly log: Logger
}

/** `IDevice` and `ISession`: check, translate, and let the port decide. */
export function addDeviceService(server: Server, options: DeviceServiceOptions, handling: HandlerOptions): void {
  const { port, details, log } = options
  const done = create(EmptySchema)

  addServerStream(
    server,
    IDevice.method.waitForSession,
    async (request, context) => {
      const initialKey = takeInitialKey('initialKey', request.initialKey)
      const { stream, ended } = createKeyStream(context, log)
      port.waitForSession(initialKey, stream)
      await ended
    },
    handling,
  )
  addUnary(
    server,
    IDevice.method.runSession,
    async (request, context) => {
      const peerAddress = checkAddress('peerAddress', request.peerAddress)
      await port.runSession(checkDetails('details', request.details), peerAddress, callContext(context))
      return done
    },
    handling,
  )
  addUnary(
    server,
    IDevice.method.endSession,
    async (_request, context) => {
      await port.endSession(callContext(context))
      return done
    },
    handling,
  )
  addServerStream(
    server,
    IDevice.method.getLinkStatus,
    async (_request, context) => {
      let wake: (() => void) | undefined
      const rouse = (): void => wake?.()
      const unsubscribe = port.linkStatus.subscribe(rouse)
      context.signal.addEventListener('abort', rouse, { once: true })
      let shown: LinkStatusValue | undefined
      try {
        while (!context.signal.aborted) {
          const present = port.linkStatus.value
          if (present.state !== shown?.state || present.errorCode !== shown.errorCode) {
            shown = present
            if ((await context.write(wireStatus(present))) === 'ended') return
          } else {
            await new Promise<void>((resolve) => (wake = resolve))
          }
        }
      } finally {
        unsubscribe()
        context.signal.removeEventListener('abort', rouse)
      }
    },
    handling,
  )
  addUnary(server, IDevice.method.getDetails, () => controlDetails(details()), handling)

  addUnary(
    server,
    ISession.method.sessionStarting,
    async (request, context) => {
      const initiator = checkAddress('initiatorAddress', request.initiatorAddress)
      await port.sessionStarting(checkDetails('details', request.details), initiator, callContext(context))
      return done
    },
    handling,
  )
  addUnary(
    server,
    ISession.method.sessionEnding,
    async (_request, context) => {
      await port.sessionEnding(callContext(context))
      return done
    },
    handling,
  )
}

const STATES: Readonly<Record<LinkStatusValue['state'], LinkStatus_State>> = {
  inactive: LinkStatus_State.Inactive,
  listening: LinkStatus_State.Listening,
  connected: LinkStatus_State.Connected,
  sessionStarted: LinkStatus_State.SessionStarted,
}

function wireStatus(value: LinkStatusValue): ReturnType<typeof create<typeof LinkStatusSchema>> {
  return create(LinkStatusSchema, { state: STATES[value.state], errorCode: BigInt(value.errorCode) })
}
