import type { Random } from '../../../src/base/random.js'
import type { DeviceEvent, DriverContext, Side } from '../../../src/device/contract.js'
import type { PairDevice, PairPeer, PairServices, PairSession } from '../../../src/device/pair-contract.js'
import { PairCallError } from '../../../src/device/pair-contract.js'
import type { Clock } from '../../../src/base/clock.js'
import { silentLogger } from '../../../src/observe/log.js'
import type { DeviceIo } from '../../../src/io/contract.js'

/** A repeatable stream of bytes (xorshift). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0 || 1
  const next = (): number => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state
  }
  return {
    bytes: (length) => Uint8Array.from({ length }, () => next() & 255),
    fraction: () => next() / 2 ** 32,
  }
}

/** For drivers that open nothing. */
export const noIo: DeviceIo = {
  openSerial: () => Promise.reject(new Error('nothing to open here')),
  watchPath: () => () => {},
  resolvePath: () => undefined,
  stableNameOf: () => undefined,
}

export function contextFor(
  side: Side,
  clock: Clock,
  options: Readonly<Record<string, string>> = {},
  seed = 1,
): DriverContext {
  return { device: '', side, options, io: noIo, clock, random: seededRandom(seed), log: silentLogger }
}

function unimplemented(call: string): Promise<never> {
  return Promise.reject(new PairCallError('unimplemented', call))
}

/** A peer whose calls end at another device's services, values copied as a wire would. */
export function peerOf(services: PairServices): PairPeer {
  return {
    startDetecting: (at, signal) => services.startDetecting?.(at, signal) ?? unimplemented('startDetecting'),
    stopDetecting: (at, signal) => services.stopDetecting?.(at, signal) ?? unimplemented('stopDetecting'),
    onPhoton: ({ periodPs, qubits }, signal) =>
      services.onPhoton?.({ periodPs, qubits: Uint8Array.from(qubits) }, signal) ?? unimplemented('onPhoton'),
    verifyBases: (frames, signal) =>
      services.verifyBases?.(
        frames.map(({ frameId, bases }) => ({ frameId, bases: Uint8Array.from(bases) })),
        signal,
      ) ?? unimplemented('verifyBases'),
    useKeyIds: (signal) => {
      const queue: (readonly bigint[])[] = []
      let wake: () => void = () => {}
      let over = false
      async function* batches(): AsyncGenerator<readonly bigint[]> {
        for (;;) {
          const batch = queue.shift()
          if (batch !== undefined) yield batch
          else if (over) return
          else await new Promise<void>((resolve) => (wake = resolve))
        }
      }
      const stop = (): void => {
        over = true
        wake()
      }
      signal.addEventListener('abort', stop, { once: true })
      const answer = services.useKeyIds?.(batches(), signal) ?? unimplemented('useKeyIds')
      answer.catch(() => {})
      return {
        async send(ids) {
          queue.push([...ids])
          wake()
        },
        end() {
          stop()
          return answer
        },
      }
    },
  }
}

/** A session whose failure is kept to be looked at. */
export function sessionWith(peer: PairPeer, initialKey = new Uint8Array(0)): PairSession & { failures: Error[] } {
  const failures: Error[] = []
  return {
    peer,
    peerHost: '127.0.0.1',
    lineAttenuationDb: 0,
    initialKey: async () => Uint8Array.from(initialKey),
    fail: (error) => failures.push(error),
    failures,
  }
}

/** Everything a device has said so far, keys as hex. */
export function record(device: PairDevice): {
  keys: { id: bigint; hex: string }[]
  events: DeviceEvent[]
  /** Resolves once there are so many keys. */
  untilKeys(count: number): Promise<void>
} {
  const keys: { id: bigint; hex: string }[] = []
  const events: DeviceEvent[] = []
  const waiting = new Set<() => void>()
  device.subscribe((event) => {
    events.push(event)
    if (event.type !== 'key') return
    keys.push({ id: event.id, hex: Buffer.from(event.key).toString('hex') })
    for (const look of [...waiting]) look()
  })
  return {
    keys,
    events,
    untilKeys: (count) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (keys.length < count) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      }),
  }
}
