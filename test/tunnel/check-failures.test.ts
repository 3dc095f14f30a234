/** `qkd-gw tunnel check` at a real sshd, on ways that pass some things and not others. */
import { once } from 'node:events'
import net from 'node:net'
import { describe, expect, it } from 'vitest'
import type { CheckStep } from '../../src/tunnel/check-step.js'
import { alone, onCleanup } from './bench-tunnel.js'
import { freePort, startRealSshd } from './real-sshd.js'
import { check } from './tunnel-command.js'

/** Passes the first so many bytes of a connection, both ways together, and resets it then. */
type BytesOf = (nth: number) => number

async function startPickyWay(to: number, bytesOf: BytesOf): Promise<number> {
  let count = 0
  const server = net
    .createServer({ noDelay: true }, (near) => {
      count += 1
      let left = bytesOf(count)
      const far = net.connect({ host: '127.0.0.1', port: to, noDelay: true })
      const pass = (from: net.Socket, into: net.Socket): void => {
        from.on('error', () => {}).once('close', () => into.destroy())
        from.on('data', (chunk: Buffer) => {
          left -= chunk.length
          if (left < 0) return void near.resetAndDestroy()
          if (!into.write(chunk)) {
            from.pause()
            into.once('drain', () => from.resume())
          }
        })
        from.on('end', () => into.end())
      }
      pass(near, far)
      pass(far, near)
    })
    .listen(0, '127.0.0.1')
  onCleanup(() => void server.close())
  await once(server, 'listening')
  return (server.address() as net.AddressInfo).port
}

const ALL = Number.POSITIVE_INFINITY
/** Connections in order: one from here, one from the server, one with a large message, fifteen for the latency. */
const LARGE = 3
const CALLS = { first: LARGE + 1, last: LARGE + 15 }
const isCall = (nth: number): boolean => nth >= CALLS.first && nth <= CALLS.last

describe.concurrent('qkd-gw tunnel check, where not everything comes through', () => {
  it.each<[string, { bytesOf: BytesOf; exitCode: number | undefined; steps: Record<string, Partial<CheckStep>> }]>([
    [
      'names the MTU where small messages come through and large ones do not, and tries no larger ones',
      {
        bytesOf: () => 100_000,
        exitCode: 11,
        steps: {
          'large messages': { result: 'failed', remedy: expect.stringMatching(/lower the MTU/) as string },
          throughput: { result: 'skipped' },
        },
      },
    ],
    [
      'names the rate of the line where a megabyte comes through and eight do not',
      {
        bytesOf: () => 5_000_000,
        exitCode: 11,
        steps: {
          'large messages': { result: 'ok' },
          throughput: { result: 'failed', remedy: expect.stringMatching(/less than 0\.4 MB\/s|cuts long/) as string },
        },
      },
    ],
    [
      'counts a call that was lost, which is a doubt and no failure',
      {
        bytesOf: (nth) => (nth === CALLS.first + 2 ? 0 : ALL),
        exitCode: undefined,
        steps: {
          latency: {
            result: 'doubtful',
            found: expect.stringContaining('of 14 of 15 calls') as string,
            remedy: expect.stringMatching(/limit on new connections/) as string,
          },
          throughput: { result: 'ok' },
        },
      },
    ],
    [
      'fails where each further call is lost',
      {
        bytesOf: (nth) => (isCall(nth) ? 0 : ALL),
        exitCode: 11,
        steps: {
          latency: {
            result: 'failed',
            found: 'no call came back',
            remedy: expect.stringMatching(/limit on new connections/) as string,
          },
        },
      },
    ],
  ])(
    '%s',
    alone(async (_, { bytesOf, exitCode, steps }) => {
      const sshd = await startRealSshd()
      const port = await freePort()
      const way = await startPickyWay(port, bytesOf)
      const found = await check(
        sshd,
        ...['--backend', 'ssh2', '--remote-listen', `127.0.0.1:${port}`, '--control-address', `127.0.0.1:${way}`],
      )
      for (const name of ['reached from here', 'reached from the server', ...Object.keys(steps)]) {
        const step = found.steps.find((one) => one.name === name)
        expect(step).toMatchObject(steps[name] ?? { result: 'ok' })
      }
      expect(found.exitCode).toBe(exitCode)
    }),
  )
})
