/** Recognises this process at the other end of a byte stream, without any server: for `tunnel check`. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import { withDeadline, type Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import type { ForwardedConnection, ProbeSelf } from './contract.js'

type ProbeAnswer = Awaited<ReturnType<ProbeSelf>>

export interface EchoRequest {
  readonly target: HostPort
  readonly stream?: Duplex
  /** Bytes sent there, and asked back. */
  readonly bytesThere: number
  readonly bytesBack: number
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

export interface EchoSelf {
  /** For a tunnel or a prover. */
  readonly probe: ProbeSelf
  /** Answers one forwarded connection. */
  take(connection: ForwardedConnection): void
  /** As `probe`, with different amounts each way. */
  exchange(request: EchoRequest): Promise<ProbeAnswer>
}

const MAGIC = 'qkd-gw-check'
const MAX_HEAD = 200
const CHUNK = Buffer.alloc(65_536)

async function writeMany(stream: Duplex, count: number): Promise<void> {
  for (let left = count; left > 0; left -= CHUNK.length) {
    if (stream.destroyed || !stream.writable) return
    const piece = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK
    if (!stream.write(piece)) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          stream.off('drain', done).off('close', done)
          resolve()
        }
        stream.on('drain', done).on('close', done)
      })
    }
  }
}

/** Reads one line, then counts `expected(line)` bytes. */
function readHeadAndBody(
  stream: Duplex,
  expected: (head: string) => number | undefined,
): Promise<{ head: string } | { failed: string }> {
  return new Promise((resolve) => {
    let head: string | undefined
    let seen = Buffer.alloc(0)
    let left = 0
    const finish = (answer: { head: string } | { failed: string }): void => {
      stream.off('data', onData)
      resolve(answer)
    }
    const onData = (chunk: Buffer): void => {
      if (head === undefined) {
        seen = Buffer.concat([seen, chunk])
        const end = seen.indexOf('\n')
        if (end === -1) return seen.length > MAX_HEAD ? finish({ failed: 'something else answers' }) : undefined
        head = seen.subarray(0, end).toString('latin1')
        const size = expected(head)
        if (size === undefined) return finish({ failed: 'something else answers' })
        left = size - (seen.length - end - 1)
      } else left -= chunk.length
      if (left <= 0) finish({ head })
    }
    stream.on('data', onData)
    stream.once('error', (error) => finish({ failed: messageOf(error) }))
    stream.once('close', () => finish({ failed: 'the connection was closed' }))
    stream.once('end', () => finish({ failed: 'the connection was closed' }))
  })
}

/** A secret of its own: no other process answers as this one does. */
export function createEchoSelf(random: Random, clock: Clock): EchoSelf {
  const secret = random.bytes(32)
  const proofOf = (nonce: string): string => createHmac('sha256', secret).update(nonce).digest('hex')

  const exchange = async (request: EchoRequest): Promise<ProbeAnswer> => {
    const nonce = Buffer.from(random.bytes(16)).toString('hex')
    const stream = request.stream ?? net.connect({ ...request.target, noDelay: true })
    stream.on('error', () => {})
    const startedMs = clock.monotonicMs()
    try {
      return await withDeadline(
        clock,
        request.timeoutMs,
        'an answer',
        async (): Promise<ProbeAnswer> => {
          const answer = readHeadAndBody(stream, (head) => (head.startsWith(MAGIC) ? request.bytesBack : undefined))
          stream.write(`${MAGIC} ${nonce} ${request.bytesThere} ${request.bytesBack}\n`)
          await writeMany(stream, request.bytesThere)
          const result = await answer
          if ('failed' in result) {
            const stranger = result.failed === 'something else answers'
            return { result: stranger ? 'stranger' : 'unreachable', reason: result.failed }
          }
          const [, proof = '', from = ''] = result.head.split(' ')
          const expected = Buffer.from(proofOf(nonce))
          const given = Buffer.from(proof)
          if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
            return { result: 'stranger', reason: 'another qkd-gw answers' }
          }
          const roundTripMs = clock.monotonicMs() - startedMs
          return { result: 'ourselves', roundTripMs, ...(from === '-' ? {} : { originator: { host: from, port: 0 } }) }
        },
        request.signal,
      )
    } catch (error) {
      return { result: 'unreachable', reason: messageOf(error) }
    } finally {
      stream.destroy()
    }
  }

  return {
    exchange,
    probe: ({ paddingBytes, ...request }) =>
      exchange({ ...request, bytesThere: paddingBytes, bytesBack: paddingBytes }),
    take({ stream, originator }) {
      stream.on('error', () => {})
      let back = 0
      const asked = readHeadAndBody(stream, (head) => {
        const match = new RegExp(`^${MAGIC} [0-9a-f]{32} (\\d{1,9}) (\\d{1,9})$`).exec(head)
        back = Number(match?.[2])
        return match === null ? undefined : Number(match[1])
      })
      void asked.then(async (result) => {
        if ('failed' in result) return void stream.destroy()
        const nonce = result.head.split(' ')[1] ?? ''
        stream.write(`${MAGIC} ${proofOf(nonce)} ${originator?.host ?? '-'}\n`)
        await writeMany(stream, back)
        stream.end()
      })
    },
  }
}
