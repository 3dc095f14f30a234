/** The agreement with one rule broken, each in a way that a slip in its code could break it. */
import type { AgreementEffect, AgreementEvent } from '../../../src/link/agreement/events.js'
import { transition, type Transition } from '../../../src/link/agreement/machine.js'
import type { AgreementState, KeptBatch } from '../../../src/link/agreement/state.js'

export interface Mutation {
  readonly name: string
  /** The world that shows it, by the beginning of its name; default: the first of the tests' worlds that does. */
  readonly world?: string
  run(state: AgreementState, event: AgreementEvent): Transition
}

/** Changes what comes out. */
function after(
  name: string,
  change: (state: AgreementState, effects: readonly AgreementEffect[], event: AgreementEvent) => Transition,
): Mutation {
  return {
    name,
    run(state, event) {
      const result = transition(state, event)
      return change(result.state, result.effects, event)
    },
  }
}

/** Changes what goes in. */
function before(name: string, change: (state: AgreementState, event: AgreementEvent) => AgreementEvent): Mutation {
  return { name, run: (state, event) => transition(state, change(state, event)) }
}

const unchanged = (state: AgreementState, effects: readonly AgreementEffect[]): Transition => ({ state, effects })

export const MUTATIONS: readonly Mutation[] = [
  after('the right site does not wait until the left one has the batch', (state, effects) => {
    const kept = state.kept.map((batch) => (batch.order === 'follow' ? { ...batch, due: true } : batch))
    return { state: { ...state, kept }, effects }
  }),
  after('the next batch goes before the right site has the last one', (state, effects) => {
    const last = state.ahead.at(-1)
    return last === undefined
      ? unchanged(state, effects)
      : { state: { ...state, ahead: [], settled: last.serial }, effects }
  }),
  after('a batch without a report counts as taken in', (state, effects) => {
    const [doubt] = state.doubts
    if (doubt?.order !== 'first') return unchanged(state, effects)
    const ahead = [...state.ahead, { serial: doubt.serial, count: doubt.count, total: undefined }]
    const message = { type: 'takenIn', serial: doubt.serial, total: undefined, skipped: false } as const
    const delivered = { type: 'delivered', serial: doubt.serial, inferred: false } as const
    return {
      state: { ...state, doubts: state.doubts.slice(1), ahead },
      effects: [...effects, delivered, { type: 'send', message }],
    }
  }),
  after('a batch without a report counts as lost', (state, effects) => {
    const [doubt] = state.doubts
    if (doubt?.order !== 'first') return unchanged(state, effects)
    const message = { type: 'withdrawn', serial: doubt.serial, drop: false } as const
    const restore = { type: 'restore', serial: doubt.serial } as const
    return {
      state: { ...state, doubts: state.doubts.slice(1) },
      effects: [...effects, restore, { type: 'send', message }],
    }
  }),
  after('an owed batch is forgotten', (state, effects) => {
    const owed = state.kept.find(({ sentBefore }) => sentBefore)
    if (owed === undefined) return unchanged(state, effects)
    const kept = state.kept.filter((batch) => batch !== owed)
    const message = { type: 'takenIn', serial: owed.serial, total: undefined, skipped: true } as const
    return { state: { ...state, kept, settled: owed.serial }, effects: [...effects, { type: 'send', message }] }
  }),
  before('any report confirms the batch that is on its way', (state, event) => {
    if (event.type !== 'total' || state.flight === undefined) return event
    return { ...event, total: (state.store.total ?? 0n) + BigInt(state.flight.count) }
  }),
  after('the totals of the two sites are not compared', (state, effects) => {
    const found = state.diverged?.reason.startsWith('after the same batch') === true
    return { state: found ? { ...state, diverged: undefined } : state, effects }
  }),
  after('what is being sent is not written down', (state, effects) => ({
    state,
    effects: effects.map((effect) =>
      effect.type === 'journal' ? { ...effect, record: { ...effect.record, sending: [] } } : effect,
    ),
  })),
  after('the right site gets a batch before it is written down that it may', (state, effects) => ({
    state: {
      ...state,
      kept: state.kept.map((batch) =>
        batch.foreseen === undefined ? batch : { ...batch, foreseen: { ...batch.foreseen, safe: true } },
      ),
    },
    effects,
  })),
  after('what was foreseen counts as sent', (state, effects) => ({
    state: { ...state, doubts: state.doubts.map(({ serial, count, order }) => ({ serial, count, order })) },
    effects,
  })),
  {
    ...after('a gap in a Java session is not told', (state, effects) => {
      const found = state.diverged?.reason.includes('before it told whether it had batch') === true
      return { state: found ? { ...state, diverged: undefined } : state, effects }
    }),
    world: 'Java and C++: two deaths',
  },
  {
    // What the other side holds for settled was told by us, but perhaps only as a batch that may be in.
    ...after('what the other side holds for settled counts as taken in', (state, effects, event) => {
      if (event.type !== 'hello') return unchanged(state, effects)
      const { settled } = event.hello
      return { state: { ...state, doubts: state.doubts.filter(({ serial }) => serial !== settled) }, effects }
    }),
    world: 'Java and C++: two deaths',
  },
  before('a gateway that comes back does not say what is in doubt', (_, event) =>
    event.type === 'hello' ? { ...event, hello: { ...event.hello, inDoubt: [], unsure: [] } } : event,
  ),
  after('what happens between the two Hellos is never said', (state, effects) => ({
    state: { ...state, unsaid: [] },
    effects,
  })),
  {
    ...after('what was in doubt when Hello was said is forgotten before the answer', (state, effects) => ({
      state: { ...state, saidOpen: [] },
      effects,
    })),
    world: 'C++: two deaths of the left gateway and a SiteAgent',
  },
  {
    ...after('what is owed to a Java session goes to a newer one before Hello', (state, effects) => {
      const { site, peer } = state
      if (!site.restartsNumbering || peer !== undefined) return unchanged(state, effects)
      const kept = state.kept.map((batch) => (batch.due ? { ...batch, stream: site.stream } : batch))
      return { state: { ...state, kept }, effects }
    }),
    world: 'Java: two of lost connections',
  },
  {
    name: 'keys go on to a store that has parted',
    run(state, event) {
      const { flight } = state
      if (event.type !== 'journalled' || state.diverged === undefined || flight?.stage !== 'journaling') {
        return transition(state, event)
      }
      return {
        state: { ...state, flight: { ...flight, stage: 'sending' } },
        effects: [{ type: 'deliver', serial: flight.serial, stream: flight.stream }],
      }
    },
  },
  after('a newer WaitForSession takes over before the batch of the older one is settled', (state, effects, event) => {
    const { retiring } = state.site
    if (event.type !== 'streamOpened' || retiring === undefined) return unchanged(state, effects)
    const end = { type: 'endStream', stream: retiring.stream, reason: '' } as const
    return { state: { ...sendAgain(state), site: { ...state.site, retiring: undefined } }, effects: [...effects, end] }
  }),
  after('a batch whose stream ended is sent again at once', (state, effects, event) =>
    event.type === 'streamEnded' && state.flight?.lostAtMs !== undefined
      ? { state: sendAgain(state), effects }
      : unchanged(state, effects),
  ),
  {
    name: 'a withdrawn batch is kept by the other side',
    run: (state, event) =>
      event.type === 'message' && event.message.type === 'withdrawn'
        ? { state, effects: [] }
        : transition(state, event),
  },
  {
    name: 'a verified batch stays verified when the two meet again',
    run(state, event) {
      const result = transition(state, event)
      if (event.type !== 'disconnected') return result
      const effects = result.effects.filter(({ type }) => type !== 'restore')
      return { state: { ...result.state, kept: state.kept }, effects }
    },
  },
  after('a SiteAgent is not asked for its total', (state, effects) => ({
    state: { ...state, site: { ...state.site, question: { stream: state.site.stream ?? '', untilMs: undefined } } },
    effects: effects.filter(({ type }) => type !== 'ask'),
  })),
  {
    ...before('what is owed goes to a store that began anew, without a word about the other one', (state, event) =>
      event.type === 'siteRestarted' ? { type: 'tick', nowMs: event.nowMs } : event,
    ),
    world: 'C++: both SiteAgents are restarted',
  },
  after('the other side does not hear that the two begin anew', (state, effects) => ({
    state,
    effects: effects.filter((effect) => effect.type !== 'send' || effect.message.type !== 'beginAnew'),
  })),
  after('that one SiteAgent alone lost its keys counts for nothing', (state, effects) => {
    const found = state.diverged?.reason.includes('was restarted') === true
    const stores = { mine: state.store.name, theirs: state.peer?.site.store ?? '' }
    return found ? { state: { ...state, diverged: undefined, stores, offset: 'adopt' }, effects } : { state, effects }
  }),
  {
    ...after('two Java sites need not begin together', (state, effects) => ({
      state: { ...state, site: { ...state.site, epoch: '' } },
      effects,
    })),
    world: 'Java and C++: one interruption',
  },
  after('a batch that a Java site may have is sent again', (state, effects) => ({
    state,
    effects: effects.map((effect) => {
      if (effect.type === 'drop' && effect.reason === 'uncertain') return { type: 'restore', serial: effect.serial }
      if (effect.type !== 'send' || effect.message.type !== 'withdrawn') return effect
      return { type: 'send', message: { ...effect.message, drop: false } }
    }),
  })),
  {
    ...after('a Java session goes on over a batch that was given up', (state, effects) => ({
      state: { ...state, site: { ...state.site, spoiled: false } },
      effects,
    })),
    world: 'Java and C++: one interruption',
  },
]

/** As if the batch on its way had never been sent. */
function sendAgain(state: AgreementState): AgreementState {
  const { flight } = state
  if (flight === undefined || flight.stage === 'journaling') return state
  const { serial, count, order, peerTotal, stream, peerStream } = flight
  const again: KeptBatch = {
    serial,
    count,
    order,
    due: order === 'follow',
    sentBefore: false,
    peerTotal,
    stream,
    peerStream,
    foreseen: undefined,
  }
  return { ...state, flight: undefined, kept: [again, ...state.kept] }
}
