/** Which addresses are the tunnel's own host: what an originator must be to count as the SiteAgent beside the sshd. */
import net from 'node:net'
import type { HostPort } from '../base/host-port.js'
import { isLoopback } from './server-address.js'

const LOOPBACK = ['127.0.0.1', '::1', 'localhost']

function isPrivate(address: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd])/i.test(address)
}

export class HostAddresses {
  readonly #dialled: string
  readonly #known = new Set<string>()
  #seenFromHere: string | undefined
  #seenFromServer: string | undefined
  #serverIsHere = false

  constructor(server: HostPort) {
    this.#dialled = server.host
  }

  /** After connecting: where the name led to. */
  connected(address: string, resolved: readonly string[]): void {
    this.#serverIsHere = isLoopback(address)
    this.#known.clear()
    for (const one of [address, ...resolved]) this.#known.add(one)
  }

  /** After a proof: the control address is the server's, and this is where the call came in from. */
  proven(via: 'here' | 'ssh', controlAddress: HostPort, originator: HostPort | undefined): void {
    if (net.isIP(controlAddress.host) !== 0) this.#known.add(controlAddress.host)
    if (originator === undefined) return
    if (via === 'here') this.#seenFromHere = originator.host
    else this.#seenFromServer = originator.host
  }

  /** True where a call from here arrives as if it came from the server itself: then nobody can be told apart. */
  get hidden(): boolean {
    const seen = this.#seenFromHere
    if (seen === undefined || this.#serverIsHere) return false
    return isLoopback(seen) || seen === this.#seenFromServer
  }

  /**
   * Loopback, as dialled, as resolved, as registered, and the private address that the server's own calls come from.
   * Without those that calls from outside arrive under as well (a proxy or container network in front of sshd).
   */
  list(): string[] {
    const all = new Set([...LOOPBACK, this.#dialled, ...this.#known])
    const seen = this.#seenFromServer
    // Only where it is shown to differ from what strangers arrive under.
    if (seen !== undefined && isPrivate(seen) && this.#seenFromHere !== undefined) all.add(seen)
    if (!this.hidden) return [...all]
    return [...all].filter((one) => !isLoopback(one) && one !== this.#seenFromHere)
  }

  /** What is doubtful, a sentence each. */
  warnings(): string[] {
    const warnings: string[] = []
    if (this.hidden) {
      warnings.push(
        `every caller arrives as ${this.#seenFromHere ?? ''} at the server (a proxy or container network in front of sshd): the SiteAgent's calls can't be told from others', so none is let in by address`,
      )
    }
    const seen = this.#seenFromServer
    if (seen !== undefined && isPrivate(seen) && this.#seenFromHere === undefined) {
      warnings.push(
        `calls from the server itself arrive from ${seen}; if the SiteAgent's do too, allow that address by name`,
      )
    }
    return warnings
  }
}
