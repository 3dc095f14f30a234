/** What the two back ends on the system's ssh share: keys, host keys and the way to the server. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withDeadline } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import { isPostQuantum } from './algorithms.js'
import { fetchHostKey } from './fetch-host-key.js'
import { acceptedKeyTypes, checkHostKey, shownKeyOf, type HostKeyTrust } from './host-key.js'
import type { Identities } from './identities.js'
import { startKeyAgent, type KeyAgent } from './key-agent.js'
import { formatKnownHostsLine } from './known-hosts.js'
import { readKnownHosts } from './known-hosts-file.js'
import { NO_SHARING, opensshArguments, type OpensshAbility, type OpensshTarget } from './openssh-command.js'
import { explainOpenssh, factsOf, type OpensshFacts } from './openssh-errors.js'
import type { OpensshProcess } from './openssh-process.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { startProxyPipes } from './proxy-pipes.js'
import type { ServerAddress } from './server-address.js'
import { noPostQuantum } from './ssh2-backend.js'
import { jumpCannotReach, openTransport } from './transport.js'

export interface OpensshSession {
  readonly program: string
  /** Arguments for the server, without the host. */
  readonly args: readonly string[]
  /** Beside its own environment. */
  readonly env: Readonly<Record<string, string>>
  /** What an ssh to the server ended for; where that was on the way there, what that was. */
  explain(facts: OpensshFacts): Promise<GatewayError>
  /** A folder of this connection's own, 0700. */
  readonly folder: string
  /** Takes everything away again; safe to call twice. */
  dispose(): Promise<void>
}

/** Where ssh says that it connects to; behind a proxy or a jump host the name is all that is known. */
export function serverAddressOf(facts: OpensshFacts, options: TunnelOptions): string {
  return options.proxy === undefined ? (facts.address ?? options.server.host) : options.server.host
}

/** Reads the host key first and keeps it only if it is pinned: the system's ssh knows no fingerprints. */
async function pinnedKnownHosts(
  folder: string,
  options: TunnelOptions,
  timings: TunnelTimings,
  trust: HostKeyTrust,
  identities: Identities,
  signal: AbortSignal,
): Promise<string> {
  const { server, clock } = options
  const { stream } = await openTransport(options, timings, () => Promise.resolve(identities), signal)
  const types = acceptedKeyTypes(server, trust.lines)
  const key = await fetchHostKey(stream, server, types, clock, timings.handshakeTimeoutMs, signal)
  checkHostKey(server, shownKeyOf(key.blob), trust)
  const file = join(folder, 'known_hosts')
  await writeFile(file, `${formatKnownHostsLine(server, key)}\n`, { mode: 0o600 })
  return file
}

/** Prepares everything that an ssh to the server needs. Rejects with a GatewayError and leaves nothing behind. */
export async function prepareOpenssh(
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: Identities,
  askAbility: () => Promise<OpensshAbility | undefined>,
  signal: AbortSignal,
): Promise<OpensshSession> {
  const { server, jump, requirePostQuantum } = options
  const program = options.sshProgram ?? 'ssh'
  const ability = await askAbility()
  if (ability === undefined) {
    throw new GatewayError('E_CONNECT', `the program ${program} (OpenSSH) is not on this machine`, {
      remedy: 'install openssh-client, or choose the back end ssh2',
      details: { step: 'ssh' },
    })
  }
  if (requirePostQuantum === true && ability.postQuantum.length === 0) {
    throw noPostQuantum(server, `of ${ability.version}, at best curve25519`)
  }
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-ssh-'))
  const undo: (() => Promise<void> | void)[] = [() => rm(folder, { recursive: true, force: true })]
  const dispose = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const pinned = options.pinnedFingerprints ?? []
    const lines = await readKnownHosts(options.knownHostsFiles)
    const trust: HostKeyTrust = { lines, files: options.knownHostsFiles, pinned }
    const knownHosts =
      pinned.length === 0
        ? options.knownHostsFiles
        : [await pinnedKnownHosts(folder, options, timings, trust, identities, signal)]
    let agent: KeyAgent | undefined
    if (identities.decrypted.length > 0) {
      agent = await startKeyAgent(identities.decrypted, identities.agent, options.clock)
      undo.push(() => agent?.close())
    }
    const firstHop: ServerAddress = jump ?? server
    let way: Pick<OpensshTarget, 'through' | 'hostName'> = {}
    let proxyFailure: () => GatewayError | undefined = () => undefined
    if (options.proxy !== undefined) {
      const pipes = await startProxyPipes(folder, firstHop, options, timings, signal)
      undo.push(() => pipes.close())
      way = { through: pipes.command, hostName: firstHop.host }
      proxyFailure = pipes.failure
    }
    const common = {
      identityFiles: options.identityFiles,
      agent: agent?.path ?? identities.agent,
      wholeAgent: identities.agent !== undefined || agent !== undefined,
    }
    // Apart from what the ssh to the server itself says.
    const jumpLog = join(folder, 'jump.log')
    if (jump !== undefined) {
      const first = { ...common, ...way, server: jump, knownHostsFiles: options.knownHostsFiles }
      way = {
        through: [
          program,
          ...[...NO_SHARING, ...opensshArguments(first, options, timings), '-v', '-E', jumpLog],
          ...['-W', formatHostPort(server), '--', jump.host],
        ],
      }
    }
    const exchanges = requirePostQuantum === true ? { keyExchanges: ability.postQuantum } : {}
    const target: OpensshTarget = { ...common, ...way, ...exchanges, server, knownHostsFiles: knownHosts }
    const explain = async (facts: OpensshFacts): Promise<GatewayError> => {
      // Where the server itself spoke, the way to it was not what failed.
      if (facts.serverVersion === undefined) {
        const failure = proxyFailure()
        if (failure !== undefined) return failure
        if (jump !== undefined) return explainJump(factsOf(await readFile(jumpLog, 'utf8').catch(() => '')), jump)
      }
      return explainOpenssh(facts, server, trust, requirePostQuantum ?? false)
    }
    const explainJump = (facts: OpensshFacts, host: ServerAddress): GatewayError =>
      facts.authenticated
        ? jumpCannotReach(host, server, facts.said.at(-1) ?? 'it ended without a word')
        : explainOpenssh(facts, host, { ...trust, pinned: [] }, false)
    // What ssh reaches the server with is written for this shell, whichever the user has (a service may have none).
    const env: Record<string, string> = way.through === undefined ? {} : { SHELL: '/bin/sh' }
    return { program, args: opensshArguments(target, options, timings), env, explain, folder, dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/**
 * Waits until ssh is logged in; the session is disposed of when it ends. Rejects with what it ended for, E_DEADLINE or
 * E_CANCELLED; it is killed then.
 */
export async function untilAuthenticated(
  ssh: OpensshProcess,
  session: OpensshSession,
  options: TunnelOptions,
  timings: TunnelTimings,
  signal: AbortSignal,
): Promise<{ keyExchange: string; postQuantum: boolean }> {
  const timeoutMs = timings.connectTimeoutMs + timings.handshakeTimeoutMs + timings.authTimeoutMs
  const what = `ssh to ${formatHostPort(options.server)}`
  try {
    await withDeadline(options.clock, timeoutMs, what, () => ssh.until((facts) => facts.authenticated), signal)
    if (!ssh.facts.authenticated) throw await session.explain(ssh.facts)
    const keyExchange = ssh.facts.keyExchange ?? 'unknown'
    const postQuantum = isPostQuantum(keyExchange)
    if (options.requirePostQuantum === true && !postQuantum) throw noPostQuantum(options.server, keyExchange)
    void ssh.exited.then(() => session.dispose())
    return { keyExchange, postQuantum }
  } catch (error) {
    ssh.kill()
    await session.dispose()
    throw error
  }
}
