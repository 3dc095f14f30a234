/** How a link is started again, by the kind of site that it stands at. */
import { status } from '@grpc/grpc-js'
import { createBackoff } from '../base/backoff.js'
import { sleep, type Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import type { ControlDetails } from '../rpc/gen/cqp/remote/device_pb.js'
import type { PhysicalPath } from '../rpc/gen/cqp/remote/site_pb.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { SiteDialect } from './contract.js'
import { statusBehind, type SiteConnection } from './site-connection.js'

export interface RecipeEnd {
  readonly connection: SiteConnection
  readonly dialect: SiteDialect
}

export interface RecipeStep {
  readonly call: 'EndKeyExchange' | 'StartNode' | 'UnregisterDevice' | 'RegisterDevice'
  readonly site: 'left' | 'right'
  readonly answer: string
}

export interface RecipeOptions {
  readonly left: RecipeEnd
  readonly right: RecipeEnd
  readonly path: PhysicalPath
  /** Deadline of each call: a SiteAgent waits for its devices without one. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Told of each call and how it ended. */
  readonly onStep: (step: RecipeStep) => void
}

type EndOutcome = 'stopped' | 'nothing-ran' | 'unknown'

/**
 * C++: EndKeyExchange at the left site, which passes it on, and at the right one too where the left knows of nothing (it
 * was restarted, or stopped alone); then StartNode at the left. Java: StartNode alone, with a deadline, because a
 * successful one is never answered. Rejects with what StartNode rejected with; no answer from a Java site is success.
 */
export async function restartLink(options: RecipeOptions): Promise<void> {
  const { left, right, path, timeoutMs, signal, onStep } = options
  if (left.dialect !== 'java' && (await end('left', left, options)) !== 'stopped' && right.dialect !== 'java') {
    await end('right', right, options)
  }
  try {
    await left.connection.call(ISiteAgent.method.startNode, path, timeoutMs, signal)
    onStep({ call: 'StartNode', site: 'left', answer: 'OK' })
  } catch (error) {
    const silent = codeOf(error) === 'E_DEADLINE'
    // Java's answers failures only; with a Java site on the right the left one waits for an answer that never comes.
    if (silent && (left.dialect === 'java' || right.dialect === 'java')) {
      onStep({ call: 'StartNode', site: 'left', answer: 'none, which from such a site means success' })
      return
    }
    onStep({ call: 'StartNode', site: 'left', answer: messageOf(error) })
    throw error
  }
}

async function end(site: 'left' | 'right', at: RecipeEnd, options: RecipeOptions): Promise<EndOutcome> {
  const { path, timeoutMs, signal, onStep } = options
  try {
    await at.connection.call(ISiteAgent.method.endKeyExchange, path, timeoutMs, signal)
    onStep({ call: 'EndKeyExchange', site, answer: 'OK' })
    return 'stopped'
  } catch (error) {
    if (signal.aborted) throw error
    const nothingRan = statusBehind(error) === status.INVALID_ARGUMENT
    onStep({ call: 'EndKeyExchange', site, answer: nothingRan ? 'nothing ran there' : messageOf(error) })
    return nothingRan ? 'nothing-ran' : 'unknown'
  }
}

export interface StaticRecipeOptions {
  /** One end of the link, whichever: its SiteAgent, and the device as it is registered there. */
  readonly connection: SiteConnection
  readonly deviceId: string
  readonly callTimeoutMs: number
  /** Deadline of RegisterDevice, inside which the link is started. */
  readonly registerTimeoutMs: number
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly random: Random
  readonly onStep: RecipeOptions['onStep']
}

/** More entries of one id than anybody ever saw. */
const mostEntries = 10_000
const registerTries = 10

/**
 * A static link, from outside: the device's entry is taken away until none is left, which stops the link at both sites,
 * and registered anew as it was, unknown fields included, which starts it. A device taken away is not left so: registering
 * is tried again with growing pauses. Rejects with E_SITE_REFUSED where the device is not there or cannot be taken away.
 */
export async function restartStaticLink(options: StaticRecipeOptions): Promise<void> {
  const { connection, deviceId, callTimeoutMs, signal, onStep } = options
  const details = await connection.call(ISiteAgent.method.getSiteDetails, {}, callTimeoutMs, signal)
  // The first entry of an id is the one that is used.
  const entry = details.devices.find(({ config }) => config?.id === deviceId)
  if (entry === undefined) throw new GatewayError('E_SITE_REFUSED', `${deviceId} is not registered`)
  for (let entries = 0; entries < mostEntries; entries += 1) {
    try {
      await connection.call(ISiteAgent.method.unregisterDevice, { id: deviceId }, callTimeoutMs, signal)
    } catch (error) {
      if (statusBehind(error) !== status.NOT_FOUND) throw error
      onStep({ call: 'UnregisterDevice', site: 'left', answer: `OK, ${entries} taken away` })
      break
    }
  }
  await register(entry, options)
}

async function register(entry: ControlDetails, options: StaticRecipeOptions): Promise<void> {
  const { connection, registerTimeoutMs, signal, clock, random, onStep } = options
  const backoff = createBackoff({ firstMs: 200, maxMs: 5_000 }, random)
  for (let tries = 1; ; tries += 1) {
    try {
      await connection.call(ISiteAgent.method.registerDevice, entry, registerTimeoutMs, signal)
      onStep({ call: 'RegisterDevice', site: 'left', answer: 'OK' })
      return
    } catch (error) {
      onStep({ call: 'RegisterDevice', site: 'left', answer: messageOf(error) })
      if (signal.aborted || tries === registerTries) throw error
      await sleep(clock, backoff.nextMs(), signal)
    }
  }
}
