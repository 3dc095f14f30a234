import type { ServerHttp2Session } from 'node:http2'
import type { Clock, Timer } from '../base/clock.js'

export interface AbsenceBounds {
  /** Pause between two questions to a caller, ms. */
  readonly askEveryMs: number
  /** A caller without an open call that has not answered by then is gone, ms. */
  readonly answerWithinMs: number
}

export const DEFAULT_ABSENCE_BOUNDS: AbsenceBounds = { askEveryMs: 120_000, answerWithinMs: 60_000 }

/**
 * Asks a caller now and then whether it is still there, by a ping. One whose machine is gone, or whose session nghttp2 has
 * ended after nonsense (Node 20 reads no more of it then, and never hears that it was closed), would hold its place for ever.
 * Calls that are open are left to those who serve them; the ping lets TCP find out that nobody is there.
 */
export function endWhenAbsent(
  session: ServerHttp2Session,
  clock: Pick<Clock, 'after'>,
  bounds: AbsenceBounds,
  openCalls: () => number,
): void {
  let timer: Timer | undefined
  const askLater = (): void => {
    timer?.cancel()
    timer = clock.after(bounds.askEveryMs, ask)
  }
  const ask = (): void => {
    if (session.destroyed) return
    let isAnswered = false
    timer = clock.after(bounds.answerWithinMs, () => {
      if (isAnswered || openCalls() > 0) askLater()
      else session.destroy()
    })
    // Refused while many are unanswered, which is no answer either.
    session.ping((error) => (isAnswered = error === null))
  }
  session.once('close', () => timer?.cancel())
  askLater()
}
