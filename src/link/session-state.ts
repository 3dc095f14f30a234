/** Where the session stands, and what that looks like from outside. */
import type { LinkStatusValue } from '../rpc/device-port.js'

/** Whether the other end is a gateway, and how the link service between the two stands. */
export type PeerLink =
  | { readonly peer: 'ours'; readonly link: 'opening' | 'open' | 'lost'; readonly reason: string }
  /** A device of another maker: sessions work, agreement on keys does not. */
  | { readonly peer: 'foreign' }

export type SessionState =
  /** `errorCode`: gRPC code of the failure that led here, 0 where none did. */
  | { readonly state: 'none'; readonly errorCode: number; readonly reason: string }
  /** Ours to begin (RunSession came); the peer has not answered yet. `tried`: how often. */
  | {
      readonly state: 'starting'
      readonly role: 'right'
      readonly peerAddress: string
      readonly tried: number
      readonly errorCode: number
      readonly reason: string
    }
  | {
      readonly state: 'started'
      readonly role: 'left' | 'right'
      readonly peerAddress: string
      readonly peerLink: PeerLink
    }
  | { readonly state: 'ending'; readonly role: 'left' | 'right'; readonly peerAddress: string }

export interface ListenerView {
  /** A WaitForSession is open. */
  readonly waiting: boolean
  /** One was open in this session and is gone for good, as far as can be told. */
  readonly gone: boolean
}

/** LinkStatus as upstream devices send it, with the states in which OpenQKDNetwork's sites start a link again. */
export function linkStatusOf(session: SessionState, { waiting, gone }: ListenerView): LinkStatusValue {
  const rest = waiting ? 'listening' : 'inactive'
  switch (session.state) {
    case 'none':
      return { state: rest, errorCode: session.errorCode }
    case 'starting':
      return session.tried === 0 ? { state: 'connected', errorCode: 0 } : { state: rest, errorCode: session.errorCode }
    case 'started':
      return { state: gone ? 'inactive' : 'sessionStarted', errorCode: 0 }
    case 'ending':
      return { state: rest, errorCode: 0 }
  }
}
