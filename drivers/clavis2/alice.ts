import { withDeadline } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import type { KeyIdStream, PairSession } from '../../src/device/pair-contract.js'
import { aliceArguments } from './program-lines.js'
import { NEW_KEY } from './protocol.js'
import { type Role, Unit, type UnitContext } from './unit.js'

/** How long the peer may take to read an id, ms. */
const SEND_MS = 2_000

/** Fetches new keys from her unit and tells Bob their numbers, in order. */
export function createAlice(context: UnitContext, session: PairSession): Role {
  const { clock, log, options } = context
  const unit = new Unit(context, session)
  const quiescing = new AbortController()
  let ids: KeyIdStream | undefined
  let fetching: Promise<void> = Promise.resolve()
  const used = new Set<bigint>()
  /** Wakes the loop: a round was finished since it last looked. */
  let ready = false
  let wake: () => void = () => {}

  async function untilReady(): Promise<void> {
    while (!ready && !quiescing.signal.aborted) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    ready = false
  }

  /** Bob must know of the key before our site has it: what he cannot know of would part the sites. */
  async function passOn(id: bigint, key: Uint8Array): Promise<void> {
    if (used.has(id)) {
      wipe(key)
      log.warn({ key: String(id) }, 'the unit gave a key out as new that it had given before')
      context.emit({ type: 'discarded', reason: 'repeated', count: 1, id })
      return
    }
    ids ??= session.peer.useKeyIds(unit.ended.signal)
    const stream = ids
    try {
      await withDeadline(clock, SEND_MS, 'UseKeyID at the peer', () => stream.send([id]), unit.ended.signal)
    } catch (error) {
      wipe(key)
      throw new GatewayError(
        'E_PEER_UNREACHABLE',
        `key ${id}: the other unit cannot be told to use it (${messageOf(error)})`,
        {
          remedy: 'start the session again',
          cause: error,
        },
      )
    }
    used.add(id)
    unit.deliver(id, key)
  }

  async function fetchRound(): Promise<void> {
    while (!quiescing.signal.aborted) {
      const fetched = await unit.keys.fetch(NEW_KEY, quiescing.signal)
      switch (fetched.outcome) {
        case 'key':
          await passOn(fetched.id, fetched.key)
          break
        case 'none':
          return
        case 'refused':
          throw new GatewayError('E_DEVICE_PROTOCOL', `the host program refuses to give a new key: ${fetched.reason}`, {
            remedy: 'check key-bytes, device-id and byte-order',
          })
      }
    }
  }

  async function fetchAll(): Promise<void> {
    while (!quiescing.signal.aborted) {
      await untilReady()
      if (!quiescing.signal.aborted) await fetchRound()
    }
  }

  return {
    services: {},
    facts: () => ({ ...unit.facts(), idsSent: used.size }),
    start(ordering) {
      const bob = options.bobAddress ?? session.peerHost
      unit.agreed(ordering)
      unit.launch(aliceArguments(bob), () => {
        ready = true
        wake()
      })
      fetching = fetchAll().catch((error: unknown) => {
        if (!quiescing.signal.aborted) session.fail(error instanceof Error ? error : new Error(String(error)))
      })
    },
    async quiesce() {
      quiescing.abort()
      wake()
      await unit.settle('the last key', fetching)
      if (ids === undefined) return
      await unit.settle(
        "the peer's answer to the key ids",
        ids.end().catch((error: unknown) => {
          log.warn({ reason: messageOf(error) }, 'the peer did not take all key ids')
        }),
      )
    },
    async end() {
      quiescing.abort()
      wake()
      await unit.end()
    },
  }
}
