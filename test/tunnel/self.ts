/** A process that recognises itself: the smallest thing that a tunnel can be proven with. */
import { randomBytes } from 'node:crypto'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import type { ForwardedConnection, ProbeSelf } from '../../src/tunnel/contract.js'

export interface Self {
  readonly probe: ProbeSelf
  /** Give it to `tunnel.onConnection`. */
  readonly take: (connection: ForwardedConnection) => void
  /** Originators of the connections so far. */
  readonly originators: string[]
  /** Connections at present. */
  readonly open: Set<Duplex>
}

/** Speaks `nonce padding\n` + padding; answers `secret nonce originator padding\n` + padding. */
export function createSelf(): Self {
  const secret = randomBytes(8).toString('hex')
  const originators: string[] = []
  const open = new Set<Duplex>()

  const take = ({ stream, originator }: ForwardedConnection): void => {
    const from = originator?.host ?? ''
    originators.push(from)
    open.add(stream)
    stream.on('error', () => {})
    stream.once('close', () => open.delete(stream))
    let seen = Buffer.alloc(0)
    stream.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk])
      const end = seen.indexOf('\n')
      if (end === -1) return
      const [nonce = '', padding = '0'] = seen.subarray(0, end).toString().split(' ')
      const size = Number(padding)
      if (seen.length < end + 1 + size) return
      seen = Buffer.alloc(0)
      stream.write(Buffer.concat([Buffer.from(`${secret} ${nonce} ${from} ${size}\n`), Buffer.alloc(size, 1)]))
    })
    stream.on('end', () => stream.end())
  }

  const probe: ProbeSelf = ({ target, stream, paddingBytes, timeoutMs, signal }) =>
    new Promise((resolve) => {
      const nonce = randomBytes(8).toString('hex')
      const started = performance.now()
      const line: Duplex = stream ?? net.connect({ ...target, noDelay: true })
      const finish = (answer: Awaited<ReturnType<ProbeSelf>>): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        line.destroy()
        resolve(answer)
      }
      const onAbort = (): void => finish({ result: 'unreachable', reason: 'stopped' })
      const timer = setTimeout(() => finish({ result: 'unreachable', reason: 'no answer' }), timeoutMs)
      signal.addEventListener('abort', onAbort, { once: true })
      let seen = Buffer.alloc(0)
      line.on('data', (chunk: Buffer) => {
        seen = Buffer.concat([seen, chunk])
        const end = seen.indexOf('\n')
        if (end === -1) return
        const [who, echoed, from = '', size] = seen.subarray(0, end).toString().split(' ')
        if (who !== secret || echoed !== nonce) return finish({ result: 'stranger', reason: 'somebody else answers' })
        if (seen.length < end + 1 + Number(size)) return
        const roundTripMs = performance.now() - started
        finish({ result: 'ourselves', roundTripMs, ...(from === '' ? {} : { originator: { host: from, port: 0 } }) })
      })
      line.on('error', (error) => finish({ result: 'unreachable', reason: error.message }))
      line.on('close', () => finish({ result: 'unreachable', reason: 'closed' }))
      line.write(`${nonce} ${paddingBytes}\n`)
      if (paddingBytes > 0) line.write(Buffer.alloc(paddingBytes, 2))
    })

  return { probe, take, originators, open }
}
