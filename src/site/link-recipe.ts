/** How a link is started again, by the kind of site that it stands at. */
import { status } from '@grpc/grpc-js'
import type { PhysicalPath } from '../rpc/gen/cqp/remote/site_pb.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { codeOf, messageOf } from '../base/errors.js'
import type { SiteDialect } from './contract.js'
import { statusBehind, type SiteConnection } from './site-connection.js'

export interface RecipeEnd {
  readonly connection: SiteConnection
  readonly dialect: SiteDialect
}

export interface RecipeOptions {
  readonly left: RecipeEnd
  readonly right: RecipeEnd
  readonly path: PhysicalPath
  /** Deadline of each call: a SiteAgent waits for its devices without one. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Told of each call and how it ended. */
  readonly onStep: (step: { call: 'EndKeyExchange' | 'StartNode'; site: 'left' | 'right'; answer: string }) => void
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
