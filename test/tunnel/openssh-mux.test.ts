import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { askMaster } from '../../src/tunnel/openssh-mux.js'
import { sshString } from '../../src/tunnel/ssh-wire.js'
import { cleanUp, onCleanup, tempFolder } from './bench-tunnel.js'

afterEach(cleanUp)

function frame(...values: (number | string)[]): Buffer {
  const parts = values.map((value) => {
    if (typeof value === 'string') return sshString(value)
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes
  })
  return sshString(Buffer.concat(parts))
}

const HELLO = frame(1, 4)

/** A socket that answers whatever is asked with these pieces, and closes. */
async function startMaster(...pieces: Buffer[]): Promise<string> {
  const path = join(tempFolder(), 'c')
  const server = net.createServer((socket) => {
    socket.on('error', () => {})
    for (const piece of pieces) socket.write(piece)
    socket.end()
  })
  server.listen(path)
  await once(server, 'listening')
  onCleanup(() => void server.close())
  return path
}

describe('a request over the control socket of ssh', () => {
  const ask = async (...pieces: Buffer[]): ReturnType<typeof askMaster> =>
    askMaster(await startMaster(...pieces), { ask: 'exit' }, AbortSignal.timeout(30_000))

  it('reads the answer, also where it comes in pieces', async () => {
    expect(await ask(HELLO, frame(0x8000_0007, 0, 4711))).toEqual({ ok: true, port: 4711 })
    const whole = Buffer.concat([HELLO, frame(0x8000_0003, 0, 'remote port forwarding failed')])
    expect(await ask(whole.subarray(0, 9), whole.subarray(9))).toEqual({
      ok: false,
      reason: 'remote port forwarding failed',
    })
  })

  it('says what it cannot read, and does not wait for more', async () => {
    expect(await ask(frame(1, 5))).toEqual({ ok: false, reason: 'ssh speaks version 5 on its control socket' })
    await expect(ask(HELLO)).rejects.toMatchObject({ code: 'E_CONNECT' })
    await expect(ask(HELLO, frame(0x8000_0003, 0))).rejects.toThrow(/cut off/)
    await expect(ask(Buffer.alloc(8, 0xff))).rejects.toThrow(/impossible length/)
  })
})
