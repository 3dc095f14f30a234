/** TCP to an SSH server: the name resolved anew each time, all addresses of both families tried. */
import { lookup } from 'node:dns/promises'
import net from 'node:net'
import { withDeadline, type Clock, type Timer } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'

/** All addresses of a name, in the order in which to try them. */
export type LookupAddresses = (host: string) => Promise<readonly string[]>

/** Next address after this time without an answer, as RFC 8305 recommends. */
const NEXT_ADDRESS_AFTER_MS = 250

/** The system's resolver (hosts file included). */
export const systemLookup: LookupAddresses = async (host) =>
  (await lookup(host, { all: true, order: 'verbatim' })).map((found) => found.address)

/** Families in turn, so that a dead one costs little. */
function interleave(addresses: readonly string[]): string[] {
  const rest = { 4: [] as string[], 6: [] as string[] }
  for (const address of addresses) rest[net.isIPv6(address) ? 6 : 4].push(address)
  const [first, second] = net.isIPv6(addresses[0] ?? '') ? [rest[6], rest[4]] : [rest[4], rest[6]]
  const mixed: string[] = []
  for (let index = 0; index < Math.max(first.length, second.length); index += 1) {
    mixed.push(...[first[index], second[index]].filter((address) => address !== undefined))
  }
  return mixed
}

/** Resolves a name within a deadline; an address is its own answer. Rejects with E_CONNECT or E_DEADLINE. */
export async function resolveHost(
  host: string,
  resolver: LookupAddresses,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string[]> {
  if (net.isIP(host) !== 0) return [host]
  const addresses = await withDeadline(clock, timeoutMs, `resolving ${host}`, () => resolver(host), signal).catch(
    (error: unknown) => {
      if (error instanceof GatewayError) throw error
      throw new GatewayError(
        'E_CONNECT',
        `the name ${host} cannot be resolved (${codeOf(error) ?? messageOf(error)})`,
        {
          remedy: 'check the name, and the name server of this machine',
          details: { host, step: 'resolve' },
          cause: error,
        },
      )
    },
  )
  if (addresses.length === 0) throw new GatewayError('E_CONNECT', `the name ${host} has no address`)
  return interleave([...new Set(addresses)])
}

/**
 * Connects to the first of the addresses that answers, each started a quarter of a second after the one before or as
 * soon as that one failed. Rejects with E_CONNECT (naming each address and its error), E_DEADLINE or E_CANCELLED; no
 * socket is left behind.
 */
export function connectTcp(
  target: HostPort,
  addresses: readonly string[],
  clock: Clock,
  timeoutMs: number,
  parent: AbortSignal,
): Promise<net.Socket> {
  const attempt = (signal: AbortSignal): Promise<net.Socket> =>
    new Promise((resolve, reject) => {
      const pending = new Set<net.Socket>()
      const failures: string[] = []
      const queue = [...addresses]
      let timer: Timer | undefined
      const stop = (winner?: net.Socket): void => {
        timer?.cancel()
        for (const socket of pending) if (socket !== winner) socket.destroy()
        signal.removeEventListener('abort', onAbort)
      }
      const onAbort = (): void => {
        stop()
        reject(new GatewayError('E_CANCELLED', 'stopped'))
      }
      const next = (): void => {
        timer?.cancel()
        const address = queue.shift()
        if (address === undefined) {
          if (pending.size > 0) return
          stop()
          reject(
            new GatewayError('E_CONNECT', `${formatHostPort(target)} cannot be reached (${failures.join('; ')})`, {
              remedy: 'check that the SSH server runs there and that no firewall is in between',
              details: { host: target.host, port: target.port, step: 'connect' },
            }),
          )
          return
        }
        const socket = net.connect({ host: address, port: target.port, noDelay: true })
        pending.add(socket)
        socket.once('error', (error) => {
          pending.delete(socket)
          failures.push(`${address}: ${codeOf(error) ?? error.message}`)
          next()
        })
        socket.once('connect', () => {
          stop(socket)
          socket.removeAllListeners('error')
          socket.on('error', () => {})
          resolve(socket)
        })
        timer = clock.after(NEXT_ADDRESS_AFTER_MS, next)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      next()
    })
  const what = `connecting to ${formatHostPort(target)} (${addresses.join(', ')})`
  return withDeadline(clock, timeoutMs, what, attempt, parent)
}
