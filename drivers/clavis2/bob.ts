import { GatewayError } from '../../src/base/errors.js'
import { type KeyOrdering, PairCallError, type PairSession } from '../../src/device/pair-contract.js'
import { bobArguments } from './program-lines.js'
import { NEW_KEY } from './protocol.js'
import { type Role, Unit, type UnitContext } from './unit.js'

const MOST_IDS_A_MESSAGE = 100_000
/** Ids remembered to tell a repetition; at 1 kbit/s a week and more. */
const MOST_IDS_A_SESSION = 2_000_000

/** Fetches from his unit the keys that Alice names, in her order. */
export function createBob(context: UnitContext, session: PairSession): Role {
  const { log, options, emit } = context
  const unit = new Unit(context, session)
  const used = new Set<bigint>()
  let ordering: KeyOrdering | undefined
  let repeated = 0
  let missing = 0
  let busy: Promise<void> = Promise.resolve()
  let streaming = false

  // Bob's program has to be up before Alice's, so it does not wait for `start`.
  unit.launch(bobArguments(session.lineAttenuationDb > 0 ? session.lineAttenuationDb : options.attenuationDb), () => {})

  async function use(id: bigint, signal: AbortSignal): Promise<void> {
    if (id === NEW_KEY) throw new PairCallError('invalidArgument', 'keyId: 0 is no key')
    // Upstream's Alice repeats all earlier ids with each message and gives each key out once.
    if (used.has(id)) {
      repeated += 1
      return
    }
    if (used.size >= MOST_IDS_A_SESSION) {
      throw new PairCallError('resourceExhausted', `keyId: more than ${MOST_IDS_A_SESSION} in one session`)
    }
    used.add(id)
    const fetched = await unit.keys.fetch(id, signal)
    if (fetched.outcome === 'key') {
      unit.deliver(fetched.id, fetched.key)
      return
    }
    const why = fetched.outcome === 'none' ? fetched.error : fetched.reason
    missing += 1
    if (ordering === 'byId') {
      log.warn({ key: String(id), reason: why }, 'the unit does not have a key that the other one has')
      emit({ type: 'discarded', reason: 'invalid', count: 1, id })
      return
    }
    // Upstream's Bob would give an empty key out here.
    session.fail(
      new GatewayError('E_LINK_MISMATCH', `key ${id}: the other site has it and our unit does not (${why})`, {
        remedy: "compare both sites' keys before using any that come after",
      }),
    )
    throw new PairCallError('notFound', `keyId ${id}: ${why}`)
  }

  return {
    services: {
      async useKeyIds(batches, signal) {
        if (streaming) throw new PairCallError('failedPrecondition', 'UseKeyID: a stream is open already')
        streaming = true
        const over = AbortSignal.any([signal, unit.ended.signal])
        try {
          for await (const ids of batches) {
            if (ids.length > MOST_IDS_A_MESSAGE) {
              throw new PairCallError(
                'resourceExhausted',
                `keyId: ${ids.length} in one message, at most ${MOST_IDS_A_MESSAGE}`,
              )
            }
            const work = async (): Promise<void> => {
              for (const id of ids) await use(id, over)
            }
            const working = work()
            busy = working.catch(() => {})
            await working
          }
        } finally {
          streaming = false
        }
      },
    },
    facts: () => ({ ...unit.facts(), idsUsed: used.size, idsRepeated: repeated, keysMissing: missing }),
    start(next) {
      ordering = next
      unit.agreed(next)
    },
    quiesce: () => unit.settle('the keys that the peer has named', busy),
    end: () => unit.end(),
  }
}
