/** A walk from the name of the server to a proven listener, each step with what was found and what would mend it. */
import { createBackend } from './backends.js'
import type { ForwardedConnection } from './contract.js'
import { clockStep, largeStep, latencyStep, throughputStep } from './check-measure.js'
import { skipped, toStep, type CheckStep, type CheckSubject } from './check-step.js'
import { createEchoSelf } from './echo-self.js'
import { fetchHostKey } from './fetch-host-key.js'
import { acceptedKeyTypes, checkHostKey, checkPins, shownKeyOf } from './host-key.js'
import { loadIdentities, type Identities, type KeyCache } from './identities.js'
import { readKnownHosts } from './known-hosts-file.js'
import type { TunnelLink } from './link.js'
import { controlAddressOf, describeListener, whoHolds } from './listener.js'
import { DEFAULT_TIMINGS, type TunnelOptions, type TunnelTimings } from './options.js'
import { Prover } from './prover.js'
import { parseProxy } from './proxy.js'
import { formatServerAddress, isWildcard, ownSshdOf } from './server-address.js'
import { connectTcp, resolveHost, systemLookup } from './socket.js'
import { openTransport } from './transport.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'

/** Names of the steps, in order. */
export const CHECK_STEPS = [
  'name',
  'TCP',
  'host key',
  'authentication',
  'key exchange',
  'own sshd',
  'forwarding',
  'reached from here',
  'reached from the server',
  'bind address',
  'large messages',
  'latency',
  'throughput',
  'clock',
] as const

type StepName = (typeof CHECK_STEPS)[number]

class Walk {
  readonly steps: CheckStep[] = []

  /** Runs a step; false where it failed. */
  async step(name: StepName, work: () => Promise<Omit<CheckStep, 'name'>>): Promise<boolean> {
    const step = await toStep(name, work)
    this.steps.push(step)
    return step.result !== 'failed'
  }

  skip(name: StepName, why: string): void {
    this.steps.push(skipped(name, why))
  }

  /** All that were not reached. */
  finish(why: string): CheckStep[] {
    const done = new Set(this.steps.map((step) => step.name))
    for (const name of CHECK_STEPS) if (!done.has(name)) this.skip(name, why)
    return this.steps
  }
}

export type CheckOptions = Omit<TunnelOptions, 'probe'>

/**
 * Walks all steps; later ones are skipped where an earlier one leaves nothing to look at. Everything is given back at
 * the end. Rejects only with E_CANCELLED and where an option is no use (E_CONFIG).
 */
export async function checkTunnel(given: CheckOptions, signal: AbortSignal): Promise<CheckStep[]> {
  const echo = createEchoSelf(given.random, given.clock)
  const options: TunnelOptions = {
    ...given,
    pinnedFingerprints: checkPins(given.pinnedFingerprints ?? []),
    probe: echo.probe,
  }
  const timings: TunnelTimings = { ...DEFAULT_TIMINGS, ...options.timings }
  const walk = new Walk()
  const cache: KeyCache = new Map()
  const { identityFiles: files, agent, prompt, backend, clock } = options
  const forSystemSsh = backend === 'openssh' || backend === 'auto'
  const identities = (): Promise<Identities> =>
    loadIdentities({ files, agent, prompt, forSystemSsh, clock }, signal, cache)

  if (!(await reachServer(walk, options, timings, identities, signal))) return walk.finish('not reached')
  let link: TunnelLink | undefined
  const loggedIn = await walk.step('authentication', async () => {
    const taker = { accepts: () => true, take: (connection: ForwardedConnection) => echo.take(connection) }
    const chosen = createBackend(options, timings, identities)
    link = await chosen.connect(taker, signal)
    return {
      result: 'ok',
      found: `${formatServerAddress(options.server)} with the back end ${chosen.name}, ${link.serverVersion}`,
      facts: { backend: chosen.name, serverVersion: link.serverVersion },
    }
  })
  if (!loggedIn || link === undefined) return walk.finish('not logged in')
  try {
    await walk.step('key exchange', () => keyExchangeStep(link as TunnelLink, options))
    await walk.step('own sshd', () => ownSshdStep(link as TunnelLink, options, signal))
    let listener: HostPort | undefined
    await walk.step('forwarding', async () => {
      const granted = await forwardingStep(link as TunnelLink, options, signal)
      listener = granted.listener
      return granted.step
    })
    if (listener !== undefined) {
      const controlAddress = controlAddressOf(options, listener)
      await useListener(walk, { link, listener, controlAddress, echo, options, timings, signal })
    }
    await walk.step('clock', () => clockStep(link as TunnelLink, options))
    return walk.finish('no listener')
  } finally {
    await link.unlisten()
    await link.end(timings.stopTimeoutMs / 2)
  }
}

async function reachServer(
  walk: Walk,
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, server } = options
  const lookup = options.lookup ?? systemLookup
  const first = options.proxy === undefined ? (options.jump ?? server) : parseProxy(options.proxy)
  let addresses: string[] = []
  const named = await walk.step('name', async () => {
    addresses = await resolveHost(first.host, lookup, clock, timings.resolveTimeoutMs, signal)
    return { result: 'ok', found: `${first.host}: ${addresses.join(', ')}`, facts: { addresses: addresses.join(' ') } }
  })
  if (!named) return false
  const connected = await walk.step('TCP', async () => {
    const startedMs = clock.monotonicMs()
    const socket = await connectTcp(first, addresses, clock, timings.connectTimeoutMs, signal)
    const tookMs = Math.round((clock.monotonicMs() - startedMs) * 10) / 10
    const address = socket.remoteAddress ?? ''
    socket.destroy()
    return { result: 'ok', found: `port ${first.port} at ${address} answers after ${tookMs} ms`, facts: { tookMs } }
  })
  if (!connected) return false
  return walk.step('host key', async () => {
    const lines = await readKnownHosts(options.knownHostsFiles)
    const { stream } = await openTransport(options, timings, identities, signal)
    const types = acceptedKeyTypes(server, lines)
    const key = await fetchHostKey(stream, server, types, clock, timings.handshakeTimeoutMs, signal)
    const shown = shownKeyOf(key.blob)
    checkHostKey(server, shown, { lines, files: options.knownHostsFiles, pinned: options.pinnedFingerprints ?? [] })
    return {
      result: 'ok',
      found: `${shown.type} ${shown.fingerprint}, as accepted`,
      facts: { fingerprint: shown.fingerprint, keyType: shown.type },
    }
  })
}

async function keyExchangeStep(link: TunnelLink, options: TunnelOptions): Promise<Omit<CheckStep, 'name'>> {
  const facts = { keyExchange: link.keyExchange, postQuantum: link.postQuantum }
  if (link.postQuantum) return { result: 'ok', found: `${link.keyExchange}, post-quantum`, facts }
  return {
    result: options.requirePostQuantum === true ? 'failed' : 'doubtful',
    found: `${link.keyExchange}, not post-quantum: a recording of the tunnel can be read once it is broken`,
    remedy: 'use the back end openssh+ssh2 with OpenSSH 9 or later on both sides',
    facts,
  }
}

async function ownSshdStep(
  link: TunnelLink,
  options: TunnelOptions,
  signal: AbortSignal,
): Promise<Omit<CheckStep, 'name'>> {
  const target = ownSshdOf(options)
  const where = formatHostPort(target)
  try {
    const stream = await link.dial(target, signal)
    stream.destroy()
    return { result: 'ok', found: `the server lets us through to ${where}: openssh+ssh2 is possible` }
  } catch (error) {
    if (signal.aborted) throw error
    const isElsewhere = error instanceof GatewayError && error.details['dial'] === 'refused'
    return {
      result: 'doubtful',
      found: isElsewhere
        ? `nothing listens at ${where} on the server itself: openssh+ssh2 is off`
        : `the server does not let us through to ${where}: openssh+ssh2 is off`,
      remedy: isElsewhere
        ? 'say where its sshd listens: --own-sshd host:port (tunnel.ownSshd)'
        : `add permitopen="${where}" to the key's line in authorized_keys`,
    }
  }
}

async function forwardingStep(
  link: TunnelLink,
  options: TunnelOptions,
  signal: AbortSignal,
): Promise<{ step: Omit<CheckStep, 'name'>; listener: HostPort | undefined }> {
  const bind = options.remoteListen
  try {
    const listener = await link.listen(bind)
    const found = `the server listens on ${describeListener(listener)}`
    return { step: { result: 'ok', found, facts: { port: listener.port } }, listener }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'E_FORWARD_REFUSED') throw error
    const host = isWildcard(bind.host) || bind.host === 'localhost' ? '127.0.0.1' : bind.host
    const isForbidden = error.details['kind'] === 'not-permitted'
    const holder = isForbidden
      ? 'nobody'
      : await whoHolds(link, { host, port: bind.port }, options.probe, 1_500, options.clock, signal)
    const why = {
      nobody: isForbidden
        ? 'the server says that it does not permit it'
        : 'nothing holds the port, so the server does not permit it',
      silent: 'something holds the port and says nothing: an earlier session, or a gateway that runs',
      stranger: 'another program or gateway answers on that port',
      ourselves: 'this very process holds it',
      unknown: 'held or not permitted: the server does not let us look',
    }[holder]
    const permission = `permitlisten="${isWildcard(bind.host) ? '*' : bind.host}:${bind.port}" on the key's line in authorized_keys`
    const remedy =
      holder === 'nobody'
        ? permission
        : holder === 'unknown'
          ? `${permission}, or stop the gateway that holds it (qkd-gw status)`
          : 'stop the gateway that holds it (qkd-gw status), or check another port with --remote-listen'
    return { step: { result: 'failed', found: `${error.message}: ${why}`, remedy }, listener: undefined }
  }
}

async function useListener(walk: Walk, subject: CheckSubject): Promise<void> {
  const { link, echo, controlAddress, timings, signal } = subject
  const control = formatHostPort(controlAddress)
  const proof = await new Prover(echo.probe, timings).prove(subject, signal)
  const fromHere = proof.proven && proof.via === 'here'
  await walk.step('reached from here', async () => {
    if (fromHere)
      return { result: 'ok', found: `${control} leads to this process (${proof.roundTripMs.toFixed(1)} ms)` }
    const why = proof.proven ? (proof.notFromHere ?? 'not tried') : messageOfProof(proof)
    return {
      result: proof.proven ? 'doubtful' : 'failed',
      found: `${control} does not lead here: ${why}`,
      remedy: `the other site may not reach it either: open port ${controlAddress.port} in the server's firewall or security group`,
    }
  })
  await walk.step('reached from the server', async () => {
    const stream = await link.dial(controlAddress, signal)
    const request = { target: controlAddress, stream, paddingBytes: 0, timeoutMs: timings.probeTimeoutMs, signal }
    const answer = await echo.probe(request)
    if (answer.result === 'ourselves') return { result: 'ok', found: `${control} leads to this process` }
    return { result: 'failed', found: answer.reason, remedy: 'see the bind address below' }
  })
  await walk.step('bind address', async () => {
    if (proof.proven) return { result: 'ok', found: `the listener answers at ${control}` }
    if ('linkDead' in proof) return { result: 'failed', found: 'the server stopped answering' }
    return {
      result: 'failed',
      found: proof.error.message,
      ...(proof.error.remedy === undefined ? {} : { remedy: proof.error.remedy }),
    }
  })
  if (!proof.proven) return
  const measured: CheckSubject & { via: 'here' | 'ssh' } = { ...subject, via: proof.via }
  const isWide = await walk.step('large messages', () => largeStep(measured))
  await walk.step('latency', () => latencyStep(measured))
  if (isWide) await walk.step('throughput', () => throughputStep(measured))
  else walk.skip('throughput', 'less does not come through already')
}

function messageOfProof(proof: { error: GatewayError } | { linkDead: true }): string {
  return 'linkDead' in proof ? 'the server stopped answering' : proof.error.message
}
