/** What can be seen of a link from outside: who is registered, what the devices say, what the SiteAgents take in. */
import { GatewayError, messageOf } from '../base/errors.js'
import { serverStream } from '../rpc/bridge.js'
import { openChannel, type Channel } from '../rpc/channel.js'
import { IDevice, LinkStatus_State } from '../rpc/gen/cqp/remote/device_pb.js'
import { ISiteAgent, type Site } from '../rpc/gen/cqp/remote/site_pb.js'
import { shownDevice } from './link-path.js'
import type { SiteConnection } from './site-connection.js'

/** One end of a link at one moment. */
export interface EndView {
  /** How the SiteAgent spells itself; undefined while it does not answer. */
  readonly siteUrl: string | undefined
  /** Why it does not, in plain words. */
  readonly trouble?: string
  /** Control address under which the device is registered; undefined while it is not. */
  readonly controlAddress: string | undefined
  /** What the device says of its link; 'hidden' where it cannot be asked from here. */
  readonly device: 'inactive' | 'listening' | 'running' | 'hidden'
}

export interface WatchedEnd {
  readonly connection: SiteConnection
  readonly deviceId: string
}

export type OpenDeviceChannel = (controlAddress: string) => Promise<Channel>

const openFromHere: OpenDeviceChannel = (address) => openChannel({ address, what: 'control address' })

/** Looks at one end. Never rejects, except with E_CANCELLED. */
export async function viewEnd(
  end: WatchedEnd,
  timeoutMs: number,
  signal: AbortSignal,
  open: OpenDeviceChannel = openFromHere,
): Promise<EndView> {
  let details: Site
  try {
    details = await end.connection.call(ISiteAgent.method.getSiteDetails, {}, timeoutMs, signal)
  } catch (error) {
    if (signal.aborted) throw new GatewayError('E_CANCELLED', 'looking at a link: stopped')
    if (error instanceof GatewayError && error.code === 'E_DEADLINE') end.connection.renew()
    return { siteUrl: undefined, trouble: messageOf(error), controlAddress: undefined, device: 'hidden' }
  }
  const device = details.devices.map(shownDevice).find(({ id }) => id === end.deviceId)
  const controlAddress = device?.controlAddress
  return {
    siteUrl: details.url,
    controlAddress,
    device: controlAddress === undefined ? 'hidden' : await askDevice(controlAddress, timeoutMs, signal, open),
  }
}

/** One message of GetLinkStatus, then hang up. */
async function askDevice(
  controlAddress: string,
  timeoutMs: number,
  signal: AbortSignal,
  open: OpenDeviceChannel,
): Promise<EndView['device']> {
  let channel: Channel | undefined
  try {
    channel = await open(controlAddress)
    const call = serverStream(channel.client, IDevice.method.getLinkStatus, {}, { deadlineMs: timeoutMs, signal })
    for await (const { state } of call) {
      if (state === LinkStatus_State.Inactive) return 'inactive'
      return state === LinkStatus_State.Listening ? 'listening' : 'running'
    }
    return 'hidden'
  } catch {
    // Behind a firewall, refused, or gone: the SiteAgents' figures must do.
    return 'hidden'
  } finally {
    await channel?.close()
  }
}
