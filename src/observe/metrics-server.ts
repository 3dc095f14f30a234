/** Serves one page of text over HTTP, `GET /metrics`, for Prometheus and its like; bounded in every way. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'

export interface MetricsPage {
  readonly contentType: string
  readonly text: string
}

export interface MetricsServer {
  /** What was bound. */
  readonly address: HostPort
  /** Always resolves. */
  close(): Promise<void>
}

const maxConnections = 16
const maxHeaderBytes = 8_192
const requestTimeoutMs = 5_000
const idleTimeoutMs = 65_000

/**
 * Listens at `at` (port 0 takes a free one). Rejects with E_ADDRESS_IN_USE, or E_CONFIG for an address that this machine
 * does not have or may not bind. An error of `page` is answered with 500 and goes to `onError`.
 */
export function serveMetrics(
  at: HostPort,
  page: () => Promise<MetricsPage>,
  onError: (error: unknown) => void,
): Promise<MetricsServer> {
  const server = createServer(
    {
      maxHeaderSize: maxHeaderBytes,
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      keepAliveTimeout: idleTimeoutMs,
    },
    (request, response) => {
      answer(request, response, page).catch((error: unknown) => {
        onError(error)
        if (!response.headersSent) plain(response, 500, 'the metrics cannot be told')
        else response.destroy()
      })
    },
  )
  server.maxConnections = maxConnections
  // A request that has no body is over with its headers: nobody may send one for long.
  server.setTimeout(idleTimeoutMs, (socket) => socket.destroy())
  server.on('clientError', (_error, socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(refusal(at, error)))
    server.listen({ host: at.host, port: at.port }, () => {
      server.on('error', onError)
      const bound = server.address()
      const port = typeof bound === 'object' && bound !== null ? bound.port : at.port
      resolve({ address: { host: at.host, port }, close: () => closed(server) })
    })
  })
}

function refusal(at: HostPort, error: Error): GatewayError {
  const where = formatHostPort(at)
  if (codeOf(error) === 'EADDRINUSE') {
    return new GatewayError('E_ADDRESS_IN_USE', `metrics: ${where} is taken`, {
      remedy: 'name another address (--metrics host:port, or listen under [metrics] in the file of each), or say off',
      cause: error,
    })
  }
  return new GatewayError('E_CONFIG', `metrics: cannot listen at ${where}: ${codeOf(error) ?? messageOf(error)}`, {
    remedy: 'name an address of this machine with --metrics host:port, or say --metrics off',
    cause: error,
  })
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  page: () => Promise<MetricsPage>,
): Promise<void> {
  const path = (request.url ?? '').split('?')[0]
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    // What it may still be sending is not read.
    response.setHeader('connection', 'close')
    return plain(response, 405, 'only GET')
  }
  if (path !== '/metrics') return plain(response, 404, 'the metrics are at /metrics')
  const { contentType, text } = await page()
  response.writeHead(200, { 'content-type': contentType, 'cache-control': 'no-store' })
  response.end(request.method === 'HEAD' ? undefined : text)
}

function plain(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' })
  response.end(`${text}\n`)
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
