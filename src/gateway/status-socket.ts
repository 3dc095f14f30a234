import { chmodSync, existsSync, readdirSync, unlinkSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { codeOf, GatewayError } from '../base/errors.js'
import type { JsonValue, PartStatus } from '../observe/status.js'
import { safeFileName } from './state-folder.js'

/** Everything `qkd-gw status` shows of one running gateway. */
export interface GatewayStatus {
  version: string
  pid: number
  id: string
  device: string
  startedAtMs: number
  /** Device, server, tunnel, registration, session, link: each part of the chain, in this order. */
  parts: { [part: string]: PartStatus }
  /** Every unsafe choice and doubt of all parts, a sentence each. */
  warnings: string[]
  counts: { [name: string]: JsonValue | undefined }
}

/** Requests on the socket: one JSON line in, one JSON line out. */
export interface ControlRequest {
  request: (typeof requests)[number]
}

const requests = ['status', 'evidence', 'kick', 'acceptDivergence'] as const

/** What a running gateway tells an audit of its link. */
export interface GatewayEvidence {
  id: string
  /** host:port of its SiteAgent, as this gateway calls it; undefined where it has none. */
  siteAgent?: string
  /** One line of the journal, as it would be written now. */
  record: string
  /** The batch that is on its way in good order. */
  moving?: { serial: number; count: number }
}

export interface StatusSocket {
  readonly path: string
  close(): void
}

const suffix = '.sock'
const answerTimeoutMs = 3_000
const longestRequestBytes = 4_096

function isControlRequest(value: unknown): value is ControlRequest {
  return (
    typeof value === 'object' &&
    value !== null &&
    'request' in value &&
    requests.some((request) => request === value.request)
  )
}

/** The socket's path: short, because a Unix socket's path may have 107 bytes at most. */
export function statusSocketPath(stateFolder: string, id: string): string {
  return join(stateFolder, `${safeFileName(id).slice(0, 40)}${suffix}`)
}

/** Serves `answer` on a socket that only this user may open (0600, in a folder of 0700). */
export function serveStatus(
  path: string,
  answer: (request: ControlRequest) => JsonValue | GatewayStatus | GatewayEvidence,
): Promise<StatusSocket> {
  // The state folder is locked by us: a socket that lies here is a dead process's.
  if (existsSync(path)) unlinkSync(path)
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      let text = ''
      socket.on('error', () => {})
      socket.setTimeout(answerTimeoutMs, () => socket.destroy())
      socket.on('data', (chunk) => {
        text += chunk.toString('utf8')
        if (text.length > longestRequestBytes) socket.destroy()
        if (socket.destroyed || !text.includes('\n')) return
        let request: unknown
        try {
          request = JSON.parse(text)
        } catch {
          request = undefined
        }
        const reply = isControlRequest(request) ? answer(request) : { error: 'unknown request' }
        socket.end(`${JSON.stringify(reply)}\n`)
      })
    })
    server.once('error', reject)
    const maskBefore = process.umask(0o177)
    server.listen(path, () => {
      chmodSync(path, 0o600)
      server.unref()
      resolve({
        path,
        close: () => {
          server.close(() => {})
        },
      })
    })
    process.umask(maskBefore)
  })
}

/** Sockets of gateways that run, or ran, with this state folder. */
export function statusSockets(stateFolder: string): string[] {
  try {
    return readdirSync(stateFolder)
      .filter((name) => name.endsWith(suffix))
      .sort()
      .map((name) => join(stateFolder, name))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}

/** Asks one running gateway. Rejects with E_NOT_RUNNING where nobody answers. */
export function askGateway(path: string, request: ControlRequest): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(path, () => socket.write(`${JSON.stringify(request)}\n`))
    const failed = (why: string): void => {
      socket.destroy()
      reject(new GatewayError('E_NOT_RUNNING', `${path}: ${why}`, { remedy: 'start the gateway with qkd-gw attach' }))
    }
    socket.setTimeout(answerTimeoutMs, () => failed(`no answer within ${answerTimeoutMs} ms`))
    socket.on('data', (chunk) => (text += chunk.toString('utf8')))
    socket.on('error', (error) => failed(codeOf(error) ?? error.message))
    socket.on('end', () => {
      try {
        resolve(JSON.parse(text))
      } catch {
        failed('an answer that is no JSON')
      }
    })
  })
}
