/** Visibility of a fringe from counts, while somebody turns a polariser or a phase: for alignment, never for key. */
export interface Visibility {
  /** Takes one count; returns (max − min) / (max + min) in percent over the window, or undefined where that is nothing. */
  push(count: number): number | undefined
}

/** Over the last `samples` counts. */
export function createVisibility(samples: number): Visibility {
  const window: number[] = []
  return {
    push(count) {
      window.push(count)
      if (window.length > samples) window.shift()
      if (window.length < 2) return undefined
      let [least, most] = [Infinity, -Infinity]
      for (const value of window) {
        least = Math.min(least, value)
        most = Math.max(most, value)
      }
      return most + least === 0 ? undefined : (100 * (most - least)) / (most + least)
    },
  }
}
