import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { type MetricsPage, type MetricsServer, serveMetrics } from '../../src/observe/metrics-server.js'

const running: MetricsServer[] = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()))
})

const page = (): Promise<MetricsPage> => Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'a 1\n' })

async function serve(make = page, onError: (error: unknown) => void = () => {}): Promise<string> {
  const server = await serveMetrics({ host: '127.0.0.1', port: 0 }, make, onError)
  running.push(server)
  return `http://127.0.0.1:${server.address.port}`
}

/** What comes back until the other side closes. */
function exchange(base: string, ...chunks: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(base).port), '127.0.0.1', () =>
      chunks.forEach((chunk) => socket.write(chunk)),
    )
    let text = ''
    socket.on('data', (chunk) => (text += chunk.toString()))
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
}

describe('the page of metrics', () => {
  it('is answered at /metrics, to GET and HEAD, and nothing else is', async () => {
    const base = await serve()
    const response = await fetch(`${base}/metrics`)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4')
    expect(await response.text()).toBe('a 1\n')
    const head = await fetch(`${base}/metrics?x=1`, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    expect((await fetch(`${base}/`)).status).toBe(404)
    expect((await fetch(`${base}/metrics`, { method: 'POST', body: 'x' })).status).toBe(405)
  })

  it('says 500 where the figures cannot be told, and answers the next request', async () => {
    let fails = true
    const errors: unknown[] = []
    const base = await serve(
      () => (fails ? Promise.reject(new Error('secret detail')) : page()),
      (error) => errors.push(error),
    )
    const response = await fetch(`${base}/metrics`)
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('secret')
    expect(errors).toHaveLength(1)
    fails = false
    expect((await fetch(`${base}/metrics`)).status).toBe(200)
  })

  it('closes connections that send no HTTP, or headers without end', async () => {
    const base = await serve()
    expect(await exchange(base, '\u0016\u0003\u0001nonsense\r\n\r\n')).toBe('')
    expect(await exchange(base, 'GET /metrics HTTP/1.1\r\nHost: x\r\n', `X: ${'y'.repeat(20_000)}\r\n\r\n`)).toBe('')
    expect((await fetch(`${base}/metrics`)).status).toBe(200)
  })

  it('turns away connections beyond its bound and serves again once they are gone', async () => {
    const base = await serve()
    const port = Number(new URL(base).port)
    const open = await Promise.all(
      Array.from(
        { length: 16 },
        () =>
          new Promise<ReturnType<typeof connect>>((resolve) => {
            const socket = connect(port, '127.0.0.1', () => resolve(socket))
            socket.on('error', () => {})
          }),
      ),
    )
    await expect(fetch(`${base}/metrics`)).rejects.toThrow()
    const gone = open.map((socket) => new Promise((resolve) => socket.once('close', resolve)))
    for (const socket of open) socket.destroy()
    await Promise.all(gone)
    const again = async (): Promise<number> => {
      for (;;) {
        const answer = await fetch(`${base}/metrics`).catch(() => undefined)
        if (answer !== undefined) return answer.status
      }
    }
    expect(await again()).toBe(200)
  })

  it('names the address and the way out where the port is taken or not ours', async () => {
    const base = await serve()
    const taken = serveMetrics({ host: '127.0.0.1', port: Number(new URL(base).port) }, page, () => {})
    await expect(taken).rejects.toMatchObject({
      code: 'E_ADDRESS_IN_USE',
      remedy: expect.stringContaining('off') as unknown,
    })
    await expect(serveMetrics({ host: '192.0.2.1', port: 1 }, page, () => {})).rejects.toMatchObject({
      code: 'E_CONFIG',
    })
  })
})
