import { createSocket, type Socket } from 'node:dgram'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type DatagramPort, openDatagramPort } from '../../src/io/udp.js'

function bound(): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.bind(0, '127.0.0.1', () => resolve(socket))
  })
}

describe('a datagram port', () => {
  let device: Socket
  let port: DatagramPort

  beforeEach(async () => {
    device = await bound()
    port = await openDatagramPort('localhost', device.address().port)
  })

  afterEach(async () => {
    await port.close()
    device.close()
  })

  it('sends to the device and hears its answer', async () => {
    device.on('message', (message, from) => device.send(Buffer.from([...message].reverse()), from.port, from.address))
    const heard = new Promise<Uint8Array>((resolve) => port.onDatagram(resolve))
    await port.send(Uint8Array.of(1, 2, 3))
    expect([...(await heard)]).toEqual([3, 2, 1])
    expect(port.strangers).toBe(0)
  })

  it('hears nobody else, and counts them', async () => {
    const stranger = await bound()
    const heard: number[][] = []
    const fromDevice = new Promise<void>((resolve) => {
      port.onDatagram((bytes) => {
        heard.push([...bytes])
        resolve()
      })
    })
    await new Promise<void>((resolve) => {
      device.on('message', (_message, from) => {
        stranger.send(Buffer.from([9]), from.port, '127.0.0.1', () =>
          device.send(Buffer.from([1]), from.port, from.address),
        )
        resolve()
      })
      void port.send(Uint8Array.of(0))
    })
    await fromDevice
    expect(heard).toEqual([[1]])
    expect(port.strangers).toBe(1)
    stranger.close()
  })

  it('refuses to send once closed, and may be closed twice', async () => {
    await port.close()
    await port.close()
    await expect(port.send(Uint8Array.of(1))).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
  })
})
