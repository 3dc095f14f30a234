import type { Client } from '@grpc/grpc-js'
import { afterEach } from 'vitest'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../../../src/rpc/rpc-error.js'
import { pathOf } from '../../../src/site/link-path.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../../src/standin/cpp-site-agent.js'
import type { CppSiteAgentOptions } from '../../../src/standin/cpp-options.js'
import { callUnary, dial } from '../../../src/standin/wire.js'
import { startPlainDevice, type PlainDevice, type PlainDeviceOptions } from './plain-device.js'

/** A signal for waits that a test would rather fail than sit through. */
export const soon = (): AbortSignal => AbortSignal.timeout(10_000)

/** The gRPC status a call ended with, 0 for OK. */
export async function codeOf(call: Promise<unknown>): Promise<number> {
  return call.then(
    () => 0,
    (error: unknown) => (error instanceof RpcError ? error.code : -1),
  )
}

export const callsOf = (made: PlainDevice, from = 0): string[] => made.calls.history.slice(from).map(({ call }) => call)

export interface Bench {
  /** Runs after the test, last one first. */
  readonly after: (cleanup: () => unknown) => void
  readonly site: (options: CppSiteAgentOptions) => Promise<StandinSiteAgent>
  readonly device: (options?: PlainDeviceOptions) => Promise<PlainDevice>
  readonly client: (agent: { address: string }) => Client
  readonly register: (agent: { address: string }, id: string, address: string) => Promise<unknown>
  readonly unregister: (agent: { address: string }, id: string) => Promise<unknown>
  readonly pair: (
    optionsA?: Partial<CppSiteAgentOptions>,
    optionsB?: Partial<CppSiteAgentOptions>,
  ) => Promise<BenchPair>
}

export interface BenchPair {
  readonly a: StandinSiteAgent
  readonly b: StandinSiteAgent
  readonly alice: PlainDevice
  readonly bob: PlainDevice
  /** StartNode and EndKeyExchange at site A, with the whole path. */
  readonly start: () => Promise<unknown>
  readonly end: () => Promise<unknown>
}

/** Stand-ins for one test file; everything is taken down after each test. */
export function useBench(): Bench {
  const cleanups: (() => unknown)[] = []
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  })
  const bench: Bench = {
    after: (cleanup) => void cleanups.push(cleanup),
    async site(options) {
      const agent = await startCppSiteAgent({ connectWaitMs: 1000, keyWaitMs: 300, ...options })
      cleanups.push(() => agent.close())
      return agent
    },
    async device(options = {}) {
      const made = await startPlainDevice(0, options)
      cleanups.push(() => made.close())
      return made
    },
    client(agent) {
      const client = dial(agent.address)
      cleanups.push(() => client.close())
      return client
    },
    register(agent, id, address) {
      const details = { config: { id, kind: 'dummyqkd' }, bindAddress: address, controlAddress: address }
      return callUnary(bench.client(agent), ISiteAgent.method.registerDevice, details)
    },
    unregister: (agent, id) => callUnary(bench.client(agent), ISiteAgent.method.unregisterDevice, { id }),
    async pair(optionsA = {}, optionsB = {}) {
      const a = await bench.site({ name: 'A', ...optionsA })
      const b = await bench.site({ name: 'B', seat: 'right', ...optionsB })
      const alice = await bench.device()
      const bob = await bench.device()
      await bench.register(a, 'a', alice.address)
      await bench.register(b, 'b', bob.address)
      const path = pathOf({ site: a.url, deviceId: 'a' }, { site: b.url, deviceId: 'b' })
      return {
        a,
        b,
        alice,
        bob,
        start: () => callUnary(bench.client(a), ISiteAgent.method.startNode, path),
        end: () => callUnary(bench.client(a), ISiteAgent.method.endKeyExchange, path),
      }
    },
  }
  return bench
}
