import type * as grpc from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'

/** One hop of a path as a site's file spells it. */
export interface StandinHop {
  readonly site: string
  readonly deviceId: string
}

/** Named switches for what goes wrong; all may be changed while the stand-in runs. */
export interface CppFaults {
  /** RegisterDevice takes the registration but does not answer before this many ms. */
  registerDelayMs: number
  /** RegisterDevice neither takes the registration nor answers. */
  registerNeverAnswers: boolean
  /** RegisterDevice answers with this status and takes nothing. */
  registerRefusedWith: grpc.status | undefined
  /** GetSiteDetails never answers. */
  detailsNeverAnswer: boolean
  /** So many invented devices are shown before the real ones. */
  inventedDevices: number
  /** No message of any WaitForSession is read, as if the program hung. */
  readsNothing: boolean
  /** ms between a message's arrival and its reading; a cancel in between loses the message. */
  readDelayMs: number
  /** ms between reading a message and storing it; a cancel in between does not keep it from being stored. */
  storeDelayMs: number
  /** Key figures are not reported. */
  reportsNothing: boolean
}

export function noFaults(): CppFaults {
  return {
    registerDelayMs: 0,
    registerNeverAnswers: false,
    registerRefusedWith: undefined,
    detailsNeverAnswer: false,
    inventedDevices: 0,
    readsNothing: false,
    readDelayMs: 0,
    storeDelayMs: 0,
    reportsNothing: false,
  }
}

export type LeftCall = 'WaitForSession' | 'GetStatistics'
export type RightCall = LeftCall | 'RunSession'

export interface CppSiteAgentOptions {
  /** Name in events and reports, `SiteA` for instance. */
  readonly name: string
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Default 0: a free port. */
  readonly port?: number
  /** What the site calls itself; default the bound address. */
  readonly connectionAddress?: string
  /** Which field of a registration holds the control address: 2 upstream, 3 in OpenQKDNetwork's branches. */
  readonly dialect?: 'upstream' | 'openqkd'
  /** Which seat its devices take in events (step 1 or 2); default left. */
  readonly seat?: 'left' | 'right'
  /** The initial key of a first session; default none. */
  readonly fallbackKey?: Uint8Array
  /** Links that start as soon as all their devices are registered. This site is then their network manager. */
  readonly staticHops?: readonly (readonly { first: StandinHop; second: StandinHop }[])[]
  /** Another site that is the network manager. */
  readonly networkManager?: string
  /** Order of the calls that race; default a random one each time. */
  readonly leftOrder?: readonly LeftCall[]
  readonly rightOrder?: readonly RightCall[]
  /** How long a device is waited for before the calls go out as if it were there; 10 s in the original. */
  readonly connectWaitMs?: number
  /** How long a key id is waited for; 30 s in the original. */
  readonly keyWaitMs?: number
  /** Keys and their numbering outlive a restart; default false. */
  readonly backingStore?: boolean
  /** The fork's `issue-27`: each key goes to this KeyTransfer service before it is stored; while nobody listens there nothing is read. */
  readonly keyTransferAddress?: string
  /** The fork's `issue-27`: after the message that passes so many keys of one session nothing more is read. */
  readonly stopsReadingAfterKeys?: number
  readonly credentials?: { readonly server: grpc.ServerCredentials; readonly client: grpc.ChannelCredentials }
  readonly faults?: Partial<CppFaults>
  readonly clock?: Clock
  /** Decides the order of racing calls. */
  readonly random?: Random
}
