/** Drives c_core_site_agent.py: a SiteAgent on gRPC's C core, a process of its own that can be frozen and killed. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { unary } from '../../../src/rpc/bridge.js'
import { openChannel } from '../../../src/rpc/channel.js'
import { PATIENCE_MS, type JsonLine } from '../../support/cli.js'
import { onCleanup } from './lab.js'

export interface CCoreSiteAgent {
  readonly address: string
  readonly pid: number
  /** Keys received so far. */
  readonly count: number
  readonly events: readonly JsonLine[]
  /** The first event, the past included, that is of that kind and fits. */
  event(kind: string, accept?: (line: JsonLine) => boolean): Promise<JsonLine>
  untilKeys(count: number): Promise<void>
  /** Every key in order of arrival, as hex. */
  keys(): Promise<readonly string[]>
  kill(signal: NodeJS.Signals): void
}

/** `tls`: authority, certificate and key, PEM files; default plain text. */
export async function startCCoreSiteAgent(
  port = 0,
  tls: readonly [string, string, string] | readonly [] = [],
): Promise<CCoreSiteAgent> {
  const script = fileURLToPath(new URL('./c_core_site_agent.py', import.meta.url))
  const child = spawn('/usr/bin/python3', [script, String(port), ...tls], { stdio: ['pipe', 'pipe', 'inherit'] })
  const events: JsonLine[] = []
  const listeners = new Set<() => void>()
  let count = 0
  let ended = false
  const gone = new Promise<void>((resolve) =>
    child.once('close', () => {
      ended = true
      resolve()
      for (const listener of [...listeners]) listener()
    }),
  )
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = JSON.parse(text) as JsonLine
    events.push(line)
    if (line['event'] === 'keys') count = Number(line['count'])
    for (const listener of [...listeners]) listener()
  })
  child.stdin.on('error', () => {})
  onCleanup(async () => {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    await gone
  })

  const until = (what: string, holds: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clearTimeout(timer)
        listeners.delete(listener)
        finish()
      }
      const listener = (): void => {
        if (holds()) settle(resolve)
        else if (ended) settle(() => reject(new Error(`the SiteAgent ended before ${what}`)))
      }
      const timer = setTimeout(
        () => settle(() => reject(new Error(`never came: ${what}\n${JSON.stringify(events.slice(-5))}`))),
        PATIENCE_MS,
      )
      listeners.add(listener)
      listener()
    })
  const event: CCoreSiteAgent['event'] = async (kind, accept = () => true) => {
    let found: JsonLine | undefined
    await until(`event ${kind}`, () => {
      found = events.find((line) => line['event'] === kind && accept(line))
      return found !== undefined
    })
    return found ?? {}
  }
  const address = String((await event('listening'))['address'])
  return {
    address,
    pid: child.pid ?? 0,
    get count() {
      return count
    },
    events,
    event,
    untilKeys: (wanted) => until(`${wanted} keys`, () => count >= wanted),
    async keys() {
      const before = events.length
      child.stdin.write('{"keys": true}\n')
      let answer: JsonLine | undefined
      await until('the keys', () => {
        answer = events.slice(before).find((line) => line['event'] === 'allKeys')
        return answer !== undefined
      })
      return answer?.['keys'] as string[]
    },
    kill: (signal) => child.kill(signal),
  }
}

/** The operator's StartNode at the left site. */
export async function startNode(left: string, right: string, ids: readonly [string, string]): Promise<void> {
  await askSite(left, 'startNode', left, right, ids)
}

/** The operator's EndKeyExchange. */
export async function endKeyExchange(left: string, right: string, ids: readonly [string, string]): Promise<void> {
  await askSite(left, 'endKeyExchange', left, right, ids)
}

async function askSite(
  target: string,
  method: 'startNode' | 'endKeyExchange',
  left: string,
  right: string,
  [leftId, rightId]: readonly [string, string],
): Promise<void> {
  const channel = await openChannel({ address: target, what: 'SiteAgent' })
  try {
    await unary(
      channel.client,
      ISiteAgent.method[method],
      { hops: [{ first: { site: left, deviceId: leftId }, second: { site: right, deviceId: rightId } }] },
      { deadlineMs: PATIENCE_MS, signal: AbortSignal.timeout(PATIENCE_MS) },
    )
  } finally {
    await channel.close()
  }
}
