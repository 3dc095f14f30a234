/** Command lines of the system's ssh. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { isPostQuantum } from './algorithms.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import type { ServerAddress } from './server-address.js'

const run = promisify(execFile)

/** What the system's ssh can do. */
export interface OpensshAbility {
  /** `OpenSSH_9.2p1 Debian-2`. */
  readonly version: string
  /** Its post-quantum key exchanges. */
  readonly postQuantum: readonly string[]
}

/** Asks the program; undefined where there is none. */
export async function opensshAbility(program: string): Promise<OpensshAbility | undefined> {
  try {
    const [version, exchanges] = await Promise.all([
      run(program, ['-V'], { timeout: 5_000 }),
      run(program, ['-Q', 'kex'], { timeout: 5_000 }),
    ])
    return {
      version: (version.stderr.trim().split(',')[0] ?? '').trim(),
      postQuantum: exchanges.stdout.split(/\s+/).filter(isPostQuantum),
    }
  } catch {
    return undefined
  }
}

/** As `opensshAbility`, asked until there is an answer and then remembered. */
export function rememberedAbility(program: string): () => Promise<OpensshAbility | undefined> {
  let known: OpensshAbility | undefined
  return async () => (known ??= await opensshAbility(program))
}

/** One word for `sh`. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`
}

/** A path within an ssh option that takes a list of them; `%` begins a token there. */
function pathInList(path: string): string {
  return `"${path.replace(/%/g, '%%').replace(/["\\]/g, '\\$&')}"`
}

/** A path on its own, where `%` begins a token too. */
export function controlPath(path: string): string {
  return path.replace(/%/g, '%%')
}

export interface OpensshTarget {
  readonly server: ServerAddress
  readonly knownHostsFiles: readonly string[]
  readonly identityFiles: readonly string[]
  readonly agent: string | undefined
  /** Offer all that the agent holds, not only what the files name. */
  readonly wholeAgent: boolean
  /** Reach the server with this command line. */
  readonly through?: readonly string[]
  /** What that leads to, whatever the user's own file calls the server. */
  readonly hostName?: string
  /** Allow no other key exchanges. */
  readonly keyExchanges?: readonly string[]
}

/** So that nothing is shared with other ssh's of this user. */
export const NO_SHARING = ['-o', 'ControlMaster=no', '-o', 'ControlPath=none'] as const

/** Arguments up to and without the host: no prompt, strict host keys, keepalives. */
export function opensshArguments(
  target: OpensshTarget,
  options: Pick<TunnelOptions, 'sshConfigFile'>,
  timings: Pick<TunnelTimings, 'connectTimeoutMs' | 'keepaliveIntervalMs' | 'keepaliveCountMax'>,
): string[] {
  const { server, through, hostName } = target
  const settings: Record<string, string> = {
    BatchMode: 'yes',
    StrictHostKeyChecking: 'yes',
    UpdateHostKeys: 'no',
    UserKnownHostsFile: target.knownHostsFiles.map(pathInList).join(' '),
    GlobalKnownHostsFile: '/dev/null',
    ConnectTimeout: String(Math.ceil(timings.connectTimeoutMs / 1_000)),
    ServerAliveInterval: String(Math.max(1, Math.round(timings.keepaliveIntervalMs / 1_000))),
    ServerAliveCountMax: String(timings.keepaliveCountMax),
    ForwardAgent: 'no',
    ForwardX11: 'no',
    PermitLocalCommand: 'no',
    // What the user's own file forwards for this host would hold the port that the gateway asks for.
    ClearAllForwardings: 'yes',
    ExitOnForwardFailure: 'yes',
    StreamLocalBindUnlink: 'yes',
  }
  if (target.knownHostsFiles.length === 0) settings['UserKnownHostsFile'] = '/dev/null'
  if (target.agent !== undefined) settings['IdentityAgent'] = pathInList(target.agent)
  else if (target.identityFiles.length > 0) settings['IdentityAgent'] = 'none'
  if (target.identityFiles.length > 0 && !target.wholeAgent) settings['IdentitiesOnly'] = 'yes'
  if (hostName !== undefined) settings['HostName'] = hostName.replace(/%/g, '%%')
  if (through !== undefined) {
    settings['ProxyCommand'] = through.map(shellWord).join(' ').replace(/%/g, '%%')
    settings['ProxyUseFdpass'] = 'no'
  }
  if (target.keyExchanges !== undefined) settings['KexAlgorithms'] = target.keyExchanges.join(',')
  return [
    ...(options.sshConfigFile === undefined ? [] : ['-F', options.sshConfigFile]),
    '-T',
    ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    ...target.identityFiles.flatMap((file) => ['-o', `IdentityFile=${pathInList(file)}`]),
    ...['-p', String(server.port), '-l', server.user],
  ]
}
