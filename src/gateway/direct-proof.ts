/** The control address of a device that needs no tunnel: proven like a tunnel's, by meeting ourselves there. */
import { StateCell, untilState, type ReadonlyCell } from '../base/cell.js'
import { sleep, type Clock } from '../base/clock.js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'
import type { ProbeSelf } from '../tunnel/contract.js'
import { isServing, type ServingState } from './serving.js'

export type DirectProofState =
  | { state: 'probing'; reason: string }
  | { state: 'proven'; controlAddress: HostPort; provenAtMs: number; roundTripMs: number }

const intervalMs = 5_000
const probeTimeoutMs = 3_000

export interface DirectProof {
  readonly state: ReadonlyCell<DirectProofState>
  run(signal: AbortSignal): Promise<void>
}

/** Proves `wanted`, or where the device service is served, once it is: before that nobody can be met anywhere. */
export function createDirectProof(
  wanted: HostPort | undefined,
  serving: ReadonlyCell<ServingState>,
  probe: ProbeSelf,
  clock: Clock,
): DirectProof {
  const cell = new StateCell<DirectProofState>({ state: 'probing', reason: 'not tried yet' }, clock)
  return {
    state: cell,
    async run(signal) {
      const served = await untilState(serving, isServing, signal).catch(() => undefined)
      if (served === undefined) return
      const target = wanted ?? parseHostPort(served.address, 'the device service')
      while (!signal.aborted) {
        const answer = await probe({ target, paddingBytes: 0, timeoutMs: probeTimeoutMs, signal })
        if (signal.aborted) return
        if (answer.result === 'ourselves') {
          cell.set({
            state: 'proven',
            controlAddress: target,
            provenAtMs: clock.nowMs(),
            roundTripMs: answer.roundTripMs,
          })
        } else {
          const who = answer.result === 'stranger' ? 'another program answers there' : 'nobody answers there'
          cell.set({ state: 'probing', reason: `${formatHostPort(target)}: ${who} (${answer.reason})` })
        }
        try {
          await sleep(clock, intervalMs, signal)
        } catch {
          return
        }
      }
    },
  }
}
