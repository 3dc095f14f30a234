/** The two link checkers of OpenQKDNetwork's SiteAgent; either runs only at the site whose id sorts first. */
import { sleep, type Clock } from '../base/clock.js'
import { serverStream } from '../rpc/bridge.js'
import { IDevice, LinkStatus_State } from '../rpc/gen/cqp/remote/device_pb.js'
import { ISiteAgent, type Site } from '../rpc/gen/cqp/remote/site_pb.js'
import { callUnary, dial } from './wire.js'

export interface JavaLinkCheck {
  /** `once` (issue-34): StartNode when both devices are registered, until it did not fail. `status` (issue-33): whenever either is Inactive. */
  readonly kind: 'once' | 'status'
  /** 30 s for `once`, 5 s for `status` in the originals. */
  readonly intervalMs: number
  /** The other site, spelt as it spells itself. */
  readonly otherSite: string
  readonly localDeviceId: string
  readonly remoteDeviceId: string
}

export interface JavaLinkCheckContext {
  readonly check: JavaLinkCheck
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Details of our own site. */
  readonly own: () => Site
  readonly controlAddressOf: (site: Site, deviceId: string) => string | undefined
  /** Calls StartNode at our own site; rejects where it failed, and otherwise never settles. */
  readonly startNode: () => Promise<unknown>
  /** `status` only: a device that did not answer is forgotten at its site. */
  readonly forget: (deviceId: string) => void
  readonly onNote: (text: string) => void
}

export async function runJavaLinkCheck(context: JavaLinkCheckContext): Promise<void> {
  const { check, clock, signal } = context
  let started = false
  while (!signal.aborted) {
    await sleep(clock, check.intervalMs, signal).catch(() => {})
    if (signal.aborted) return
    if (check.kind === 'once' && started) continue
    const other = await otherDetails(check.otherSite)
    const local = context.controlAddressOf(context.own(), check.localDeviceId)
    const remote = other === undefined ? undefined : context.controlAddressOf(other, check.remoteDeviceId)
    if (local === undefined || remote === undefined) continue
    if (check.kind === 'status' && !(await eitherInactive(context, local, remote))) continue
    context.onNote('link check: StartNode')
    started = true
    context.startNode().catch(() => {
      started = false
    })
  }
}

async function otherDetails(otherSite: string): Promise<Site | undefined> {
  const client = dial(otherSite)
  try {
    return await callUnary(client, ISiteAgent.method.getSiteDetails, {}, 2_000)
  } catch {
    return undefined
  } finally {
    client.close()
  }
}

async function eitherInactive(context: JavaLinkCheckContext, local: string, remote: string): Promise<boolean> {
  const states = await Promise.all([
    linkState(local, context.signal, () => context.forget(context.check.localDeviceId)),
    linkState(remote, context.signal, () => {}),
  ])
  return !states.includes(undefined) && states.includes(LinkStatus_State.Inactive)
}

/** One message of GetLinkStatus, then hang up. */
async function linkState(
  address: string,
  signal: AbortSignal,
  noAnswer: () => void,
): Promise<LinkStatus_State | undefined> {
  const client = dial(address)
  try {
    const call = serverStream(client, IDevice.method.getLinkStatus, {}, { deadlineMs: 2_000, signal })
    for await (const { state } of call) return state
    return undefined
  } catch {
    noAnswer()
    return undefined
  } finally {
    client.close()
  }
}
