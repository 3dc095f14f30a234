/**
 * Callers of a tunnel's listener in a process of their own: `echo`, `many COUNT` (that many at once, beside one that never
 * reads), `flood MS` (strangers who come, say nonsense or nothing, and stay). Prints one JSON document at the end.
 */
import http2 from 'node:http2'
import net from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { toBinary, create } from '@bufbuild/protobuf'
import { unary } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { EchoRequestSchema, Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'

const [what = '', address = '', amount = '0'] = process.argv.slice(2)
const deadlineMs = 30_000

async function echo(): Promise<void> {
  const channel = await openChannel({ address, what: 'caller' })
  try {
    const nonce = new Uint8Array(16)
    await unary(channel.client, Probe.method.echo, { nonce }, { deadlineMs, signal: AbortSignal.timeout(deadlineMs) })
  } finally {
    await channel.close()
  }
}

/** Asks for megabytes and takes none of them. */
function startDeaf(): () => void {
  const { 0: host = '', 1: port = '' } = address.split(':')
  const socket = net.connect(Number(port), host).on('error', () => {})
  socket.pause()
  const carrier = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _, done) => void socket.write(chunk, () => done()),
  })
  const session = http2.connect(`http://${address}`, {
    createConnection: () => carrier,
    settings: { initialWindowSize: 2 ** 31 - 1 },
  })
  session.on('error', () => {})
  const body = toBinary(
    EchoRequestSchema,
    create(EchoRequestSchema, { nonce: new Uint8Array(8), replySize: 1_048_576 }),
  )
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  for (let call = 0; call < 16; call += 1) {
    session
      .request({
        ':method': 'POST',
        ':path': '/qkdgw.probe.v1.Probe/Echo',
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      .on('error', () => {})
      .end(Buffer.concat([head, body]))
  }
  return () => {
    session.destroy()
    socket.destroy()
  }
}

async function flood(forMs: number): Promise<number> {
  const [host = '', port = ''] = address.split(':')
  const until = performance.now() + forMs
  const open = new Set<net.Socket>()
  let came = 0
  while (performance.now() < until) {
    for (let index = 0; index < 10 && open.size < 300; index += 1) {
      came += 1
      const socket = net.connect(Number(port), host).on('error', () => {})
      open.add(socket)
      socket.on('close', () => open.delete(socket))
      socket.resume()
      if (index % 2 === 0) socket.write('GET / HTTP/1.1\r\nHost: you\r\n\r\n')
    }
    await pause(20)
  }
  for (const socket of open) socket.destroy()
  return came
}

let said = ''
let answered = 0
let came = 0
if (what === 'echo') {
  await echo()
  answered = 1
} else if (what === 'many') {
  const endDeaf = startDeaf()
  await pause(300)
  const results = await Promise.allSettled(Array.from({ length: Number(amount) }, echo))
  const failure = results.find((one) => one.status === 'rejected')
  if (failure !== undefined) said = String(failure.reason)
  answered = results.filter((one) => one.status === 'fulfilled').length
  // Still there after the others came and went.
  endDeaf()
} else if (what === 'flood') came = await flood(Number(amount))
process.stdout.write(`${JSON.stringify({ answered, came, said })}\n`)
process.exit(0)
