import { describe, expect, it } from 'vitest'
import { StateCell } from '../../src/base/cell.js'
import { systemClock } from '../../src/base/clock.js'
import { createKeyRoute } from '../../src/gateway/key-route.js'
import type { PeerLink, SessionState } from '../../src/link/session-state.js'

const none: SessionState = { state: 'none', errorCode: 0, reason: '' }
const at = { role: 'left', peerAddress: '127.0.0.1:9000' } as const
const startedWith = (peerLink: PeerLink): SessionState => ({ state: 'started', ...at, peerLink })
const foreign = startedWith({ peer: 'foreign' })
const ours = startedWith({ peer: 'ours', link: 'open', reason: '' })
const ending: SessionState = { state: 'ending', ...at }

/** The ids of keys (their first byte): agreed ones by themselves, the others block by block. */
function routeOf(pair: boolean) {
  const session = new StateCell<SessionState>(none, systemClock)
  const agreed: number[] = []
  const blocks: number[][] = []
  const route = createKeyRoute(
    {
      session,
      offerKey: (id) => agreed.push(Number(id)),
      deliverUnagreed: (keys) => blocks.push(keys.map(([first = 0]) => first)),
    },
    pair,
  )
  /** Keys that come in one go, while the session is in this state. */
  const give = async (state: SessionState, ...ids: number[]): Promise<void> => {
    session.set(state)
    for (const id of ids) route.take(BigInt(id), Uint8Array.of(id))
    await Promise.resolve()
  }
  return { route, session, agreed, blocks, give }
}

describe('the way of a key', () => {
  it('is the agreement with a gateway, and one message a block with another device', async () => {
    const { agreed, blocks, give } = routeOf(true)
    await give(ours, 1, 2)
    await give(foreign, 3, 4, 5)
    await give(foreign, 6)
    await give(ours, 7)
    expect([agreed, blocks]).toEqual([
      [1, 2, 7],
      [[3, 4, 5], [6]],
    ])
  })

  it('stays what it was for what a pair finishes after its session', async () => {
    const { agreed, blocks, give } = routeOf(true)
    await give(foreign, 1)
    await give(ending, 2)
    await give(none, 3)
    expect([agreed, blocks]).toEqual([[], [[1], [2], [3]]])
  })

  it('is the agreement for keys that a device gives without a session', async () => {
    const { agreed, blocks, give } = routeOf(false)
    await give(none, 1)
    await give(foreign, 2)
    await give(ending, 3)
    await give(none, 4)
    expect([agreed, blocks]).toEqual([
      [1, 4],
      [[2], [3]],
    ])
  })

  it('ends with the route: what waits is wiped', async () => {
    const { route, session, blocks } = routeOf(true)
    session.set(foreign)
    const key = Uint8Array.of(9)
    route.take(1n, key)
    route.stop()
    await Promise.resolve()
    expect([...key]).toEqual([0])
    expect(blocks).toEqual([])
  })
})
