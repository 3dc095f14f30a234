/** What the emulated boards of one process shine at each other through. */

/** A run of light: the sender's digits, one a pulse, or a flash that only triggers. */
export interface Light {
  readonly digits: Uint8Array | undefined
}

export interface Fibre {
  shine(light: Light): void
  /** Resolves with the next light; rejects when `signal` aborts. */
  wait(signal: AbortSignal): Promise<Light>
}

const fibres = new Map<string, Fibre>()

/** The fibre of that name; the first to ask makes it. */
export function openFibre(name: string): Fibre {
  const known = fibres.get(name)
  if (known !== undefined) return known
  const waiting = new Set<(light: Light) => void>()
  const fibre: Fibre = {
    shine(light) {
      for (const see of [...waiting]) see(light)
    },
    wait: (signal) =>
      new Promise((resolve, reject) => {
        const stop = (): void => {
          waiting.delete(see)
          reject(new Error('dark'))
        }
        const see = (light: Light): void => {
          waiting.delete(see)
          signal.removeEventListener('abort', stop)
          resolve(light)
        }
        if (signal.aborted) return stop()
        waiting.add(see)
        signal.addEventListener('abort', stop, { once: true })
      }),
  }
  fibres.set(name, fibre)
  return fibre
}
