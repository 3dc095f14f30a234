/** What a tunnel is told at its start. */
import type { Clock } from '../base/clock.js'
import type { HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import type { ProbeSelf, TunnelBackendName } from './contract.js'
import type { PassphrasePrompt } from './identities.js'
import type { ServerAddress } from './server-address.js'
import type { LookupAddresses } from './socket.js'

/** All in milliseconds unless named otherwise. */
export interface TunnelTimings {
  /** Resolving the name. */
  resolveTimeoutMs: number
  /** TCP to any of the addresses, a proxy's answer included. */
  connectTimeoutMs: number
  /** From TCP to the end of the first key exchange. */
  handshakeTimeoutMs: number
  authTimeoutMs: number
  /** Asking for the listener, and giving it back. */
  forwardTimeoutMs: number
  /** Opening a connection from the server's side. */
  channelTimeoutMs: number
  /** Any answer of the server to a question of ours on a connection that is in doubt. */
  pingTimeoutMs: number
  keepaliveIntervalMs: number
  keepaliveCountMax: number
  /** A call to the control address each such interval; `proven` is never older. */
  probeIntervalMs: number
  probeTimeoutMs: number
  /** A large message each such interval. */
  largeProbeIntervalMs: number
  largeProbeBytes: number
  /** Pauses before the first tries after a loss, in order; then doubling from `retryFirstMs` to `retryMaxMs`. */
  fastRetriesMs: readonly number[]
  retryFirstMs: number
  retryMaxMs: number
  /** Pauses where the server closes before its banner: doubling from the first to the second. */
  bannedFirstMs: number
  bannedMaxMs: number
  /** A tunnel that was proven for so long has its pauses begin anew. */
  resetAfterProvenMs: number
  /** A connection on which nobody has met us for so long is replaced, if it carries nothing. */
  replaceUnprovenAfterMs: number
  /** How long the server is expected to hold a listener of a dead connection. */
  expectedReleaseMs: number
  /** Pauses between tries for a held listener: doubling from the first to the second. */
  listenFirstMs: number
  listenMaxMs: number
  /** How long to wait for a held listener before another port may be taken. */
  waitBeforeOtherPortMs: number
  /** A jump of either clock beyond the tick by more than this means that we slept. */
  sleepGapMs: number
  /** Whole time to give the listener back and to close. */
  stopTimeoutMs: number
  /** A spare connection is made so long after the first proof, and again so long after it was lost, doubling to the second. */
  spareAfterMs: number
  spareMaxMs: number
  /** A spare that has not answered by then is not used. */
  sparePingMs: number
}

export const DEFAULT_TIMINGS: TunnelTimings = {
  resolveTimeoutMs: 10_000,
  connectTimeoutMs: 10_000,
  handshakeTimeoutMs: 15_000,
  authTimeoutMs: 20_000,
  forwardTimeoutMs: 10_000,
  channelTimeoutMs: 5_000,
  pingTimeoutMs: 3_000,
  keepaliveIntervalMs: 4_000,
  keepaliveCountMax: 2,
  probeIntervalMs: 5_000,
  probeTimeoutMs: 4_000,
  largeProbeIntervalMs: 60_000,
  largeProbeBytes: 262_144,
  fastRetriesMs: [0, 100, 400],
  retryFirstMs: 1_000,
  retryMaxMs: 20_000,
  bannedFirstMs: 60_000,
  bannedMaxMs: 900_000,
  resetAfterProvenMs: 60_000,
  replaceUnprovenAfterMs: 30_000,
  expectedReleaseMs: 35_000,
  listenFirstMs: 50,
  listenMaxMs: 2_000,
  waitBeforeOtherPortMs: 60_000,
  sleepGapMs: 4_000,
  stopTimeoutMs: 1_800,
  spareAfterMs: 5_000,
  spareMaxMs: 300_000,
  sparePingMs: 1_000,
}

/** Ways out where the wanted port is held; taken in the order of the list. */
export type ListenerWay = 'wait' | 'pool' | 'any-port'

export interface TunnelOptions {
  readonly server: ServerAddress
  readonly backend: TunnelBackendName | 'auto'
  readonly identityFiles: readonly string[]
  /** Path of an ssh-agent's socket; undefined: none. */
  readonly agent?: string | undefined
  /** The first is the one that error messages name. */
  readonly knownHostsFiles: readonly string[]
  readonly pinnedFingerprints?: readonly string[]
  /** Host `''` stands for all addresses as the server permits; port 0 for one of the server's choice. */
  readonly remoteListen: HostPort
  /** Where peers dial; default: the server's name (or the listener's own address) and the listener's port. */
  readonly controlAddress?: HostPort | undefined
  readonly requirePostQuantum?: boolean
  /** `user@host:port` of a host to go through. */
  readonly jump?: ServerAddress | undefined
  /** `http://[user:password@]host:port` or `socks5://…` to go through. */
  readonly proxy?: string | undefined
  readonly ways?: readonly ListenerWay[]
  /** Ports that may be taken where the wanted one stays held. */
  readonly portPool?: readonly number[]
  /** False: the port was registered where it can't be changed any more, so wait for it, however long. */
  readonly mayChangePort?: () => boolean
  /** Asked for before `remoteListen.port` where the ways allow it: what was registered last. */
  readonly lastPort?: number | undefined
  /** Keeps a second connection, logged in and without a listener, for when the first is reset. */
  readonly spareConnection?: boolean
  /** More connections at once are refused. */
  readonly maxForwardedConnections?: number
  readonly timings?: Partial<TunnelTimings>
  readonly probe: ProbeSelf
  readonly prompt?: PassphrasePrompt | undefined
  /** The system's ssh; default `ssh` on the path. */
  readonly sshProgram?: string
  /** Its configuration file, `none` for none; default what it reads by itself. */
  readonly sshConfigFile?: string
  /** Where the server reaches its own sshd, for `openssh+ssh2`; default localhost and the port that is dialled. */
  readonly innerTarget?: HostPort | undefined
  /** Name resolution; default the system's. */
  readonly lookup?: LookupAddresses
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}
