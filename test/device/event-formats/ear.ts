import type { ReadonlyCell } from '../../../src/base/cell.js'
import type { DeviceEvent, DeviceState } from '../../../src/device/contract.js'

/** Resolves with the first state, the present one included, that `accept` likes. */
export function stateOf(
  cell: ReadonlyCell<DeviceState>,
  accept: (state: DeviceState) => boolean,
): Promise<DeviceState> {
  return new Promise((resolve) => {
    if (accept(cell.value)) return resolve(cell.value)
    const stop = cell.subscribe((state) => {
      if (!accept(state)) return
      stop()
      resolve(state)
    })
  })
}

/** What a device tells, added up. */
export class Ear {
  readonly times: bigint[] = []
  readonly patterns: number[] = []
  /** Gaps, each with the number of tags before it. */
  readonly gaps: { after: number; reason: string }[] = []
  readonly discarded = new Map<string, number>()
  readonly figures: { name: string; value: number }[] = []
  readonly #waiting = new Set<() => void>()

  hear(event: DeviceEvent): void {
    if (event.type === 'tags') {
      this.times.push(...event.timesPs)
      this.patterns.push(...event.patterns)
    } else if (event.type === 'gap') this.gaps.push({ after: this.times.length, reason: event.reason })
    else if (event.type === 'discarded')
      this.discarded.set(event.reason, (this.discarded.get(event.reason) ?? 0) + event.count)
    else if (event.type === 'figure') this.figures.push({ name: event.path.join(' '), value: event.value })
    for (const look of [...this.#waiting]) look()
  }

  /** Resolves once `enough` holds. */
  until(enough: (ear: Ear) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!enough(this)) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  untilTags(more: number): Promise<void> {
    const goal = this.times.length + more
    return this.until((ear) => ear.times.length >= goal)
  }
}

/** True where no time is lower than the one before. */
export function ascends(times: readonly bigint[]): boolean {
  return times.every((time, i) => i === 0 || time >= (times[i - 1] ?? 0n))
}
