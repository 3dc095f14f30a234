import { once } from 'node:events'
import net from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { startRelay, type Relay } from '../../src/standin/relay.js'

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function relayToEcho(): Promise<Relay> {
  const echo = net.createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(0, '127.0.0.1')
  await once(echo, 'listening')
  cleanups.push(() => void echo.close())
  const relay = await startRelay({ host: '127.0.0.1', port: (echo.address() as net.AddressInfo).port })
  cleanups.push(() => relay.close())
  return relay
}

function dial(relay: Relay): net.Socket {
  const socket = net.connect({ host: relay.host, port: relay.port, noDelay: true })
  socket.on('error', () => {})
  cleanups.push(() => void socket.destroy())
  return socket
}

async function answerTo(socket: net.Socket, text: string): Promise<string> {
  const answer = once(socket, 'data')
  socket.write(text)
  return String((await answer)[0])
}

describe('the relay', () => {
  it('holds back what is sent while it is stopped, lets new connections pass, and delivers later', async () => {
    const relay = await relayToEcho()
    const old = dial(relay)
    expect(await answerTo(old, 'one')).toBe('one')
    relay.stop('present')
    const late = answerTo(old, 'two')
    expect(await answerTo(dial(relay), 'new')).toBe('new')
    expect(old.bytesRead).toBe(3)
    relay.pass()
    expect(await late).toBe('two')
  })

  it('resets both ends', async () => {
    const relay = await relayToEcho()
    const socket = dial(relay)
    await answerTo(socket, 'x')
    const failed = once(socket, 'error')
    relay.reset()
    expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' })
  })

  it('delays both ways and keeps the order', async () => {
    const relay = await relayToEcho()
    const socket = dial(relay)
    await answerTo(socket, 'x')
    relay.delay(40)
    const startedMs = performance.now()
    expect(await answerTo(socket, 'slow')).toBe('slow')
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(75)
  })

  it('loses large pieces and everything after them', async () => {
    const relay = await relayToEcho()
    const socket = dial(relay)
    relay.smallPacketsOnly(100)
    expect(await answerTo(socket, 'small')).toBe('small')
    socket.write(Buffer.alloc(200))
    socket.write('small again')
    expect(await answerTo(dial(relay), 'other')).toBe('other')
    expect(socket.bytesRead).toBe(5)
  })
})
