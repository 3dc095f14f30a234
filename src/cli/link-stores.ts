/** What SiteAgents themselves tell an audit: their totals as they change, and one key that is given up on request. */
import { timingSafeEqual } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import { messageOf } from '../base/errors.js'
import { wipe } from '../base/wipe.js'
import { serverStream, unary } from '../rpc/bridge.js'
import { openChannel, type Channel } from '../rpc/channel.js'
import { IKey } from '../rpc/gen/cqp/remote/keys_pb.js'
import { IReporting } from '../rpc/gen/cqp/remote/reporting_pb.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../rpc/rpc-error.js'

const callTimeoutMs = 5_000
/** A SiteAgent waits up to 30 s for a key that it does not hold yet. */
const keyTimeoutMs = 35_000
const generated = ['Key Generation', 'Key Generated']

/** The latest total of one SiteAgent. */
export interface WatchedStore {
  readonly address: string
  /** Undefined where it told none. */
  total(): bigint | undefined
  /** Why it cannot be asked; undefined while it can. */
  problem(): string | undefined
  close(): Promise<void>
}

/** Asks whether it is there, and listens to its totals from then on. Never rejects. */
export async function watchStore(address: string, signal: AbortSignal): Promise<WatchedStore> {
  let total: bigint | undefined
  let problem: string | undefined
  let channel: Channel | undefined
  const ended = new AbortController()
  const either = AbortSignal.any([signal, ended.signal])
  const listen = async (open: Channel): Promise<void> => {
    const call = serverStream(
      open.client,
      IReporting.method.getStatistics,
      { filters: [{ fullname: generated }] },
      { deadlineMs: Infinity, signal: either },
    )
    try {
      for await (const { path, value } of call) {
        const isTotal = path.length === 2 && generated.every((part, index) => path[index] === part)
        if (isTotal && value.case === 'asUnsigned') total = value.value.total
      }
    } catch {
      // A Java SiteAgent serves no reports; one that dies is noticed by what is asked of it next.
    }
  }
  try {
    channel = await openChannel({ address, what: 'SiteAgent' })
    await unary(channel.client, ISiteAgent.method.getSiteDetails, {}, { deadlineMs: callTimeoutMs, signal })
    void listen(channel)
  } catch (error) {
    problem = messageOf(error)
  }
  return {
    address,
    total: () => total,
    problem: () => problem,
    async close() {
      ended.abort()
      await channel?.close()
    },
  }
}

export type SpentKey =
  | { readonly keyId: string; readonly equal: boolean }
  /** Nothing was compared, and why. */
  | { readonly problem: string }

/**
 * Takes one key out of the store at `addressA` and the one of the same id at `addressB`. Their values are compared here
 * and never shown. Never rejects.
 */
export async function spendKey(addressA: string, addressB: string, signal: AbortSignal): Promise<SpentKey> {
  const channels: Channel[] = []
  const open = async (address: string): Promise<Channel> => {
    const channel = await openChannel({ address, what: 'SiteAgent' })
    channels.push(channel)
    return channel
  }
  const soon = { deadlineMs: callTimeoutMs, signal }
  try {
    const [a, b] = [await open(addressA), await open(addressB)]
    const url = async ({ client }: Channel): Promise<string> =>
      (await unary(client, ISiteAgent.method.getSiteDetails, {}, soon)).message.url
    const [siteA, siteB] = await Promise.all([url(a), url(b)])
    const patient = { deadlineMs: keyTimeoutMs, signal }
    const { message: first } = await unary(a.client, IKey.method.getSharedKey, { siteTo: siteB }, patient)
    const opt = { case: 'keyId' as const, value: first.keyId }
    try {
      const { message: second } = await unary(b.client, IKey.method.getSharedKey, { siteTo: siteA, opt }, patient)
      const [valueA, valueB] = [first.keyValue, second.keyValue]
      const equal = valueA.length > 0 && valueA.length === valueB.length && timingSafeEqual(valueA, valueB)
      wipe(valueA, valueB)
      return { keyId: first.keyId.toString(), equal }
    } finally {
      wipe(first.keyValue)
    }
  } catch (error) {
    return { problem: explained(error) }
  } finally {
    await Promise.all(channels.map((channel) => channel.close()))
  }
}

const refusals: ReadonlyMap<number, string> = new Map([
  [status.UNIMPLEMENTED, 'a SiteAgent hands out no keys by itself (a Java one does not: its KMS does)'],
  [status.RESOURCE_EXHAUSTED, 'there is no key left to spend'],
  [status.INVALID_ARGUMENT, 'a SiteAgent has no key store for the other one'],
  [status.NOT_FOUND, 'the other SiteAgent did not get that key within 30 s'],
])

function explained(error: unknown): string {
  return (error instanceof RpcError ? refusals.get(error.code) : undefined) ?? messageOf(error)
}
