/** The control address of a device that needs no tunnel: proven like a tunnel's, by meeting ourselves there. */
import { StateCell, type ReadonlyCell } from '../base/cell.js'
import { sleep, type Clock } from '../base/clock.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { ProbeSelf } from '../tunnel/contract.js'

export type DirectProofState =
  | { state: 'probing'; reason: string }
  | { state: 'proven'; controlAddress: HostPort; provenAtMs: number; roundTripMs: number }

const intervalMs = 5_000
const probeTimeoutMs = 3_000

export interface DirectProof {
  readonly state: ReadonlyCell<DirectProofState>
  run(signal: AbortSignal): Promise<void>
}

export function createDirectProof(controlAddress: HostPort, probe: ProbeSelf, clock: Clock): DirectProof {
  const cell = new StateCell<DirectProofState>({ state: 'probing', reason: 'not tried yet' }, clock)
  return {
    state: cell,
    async run(signal) {
      while (!signal.aborted) {
        const answer = await probe({ target: controlAddress, paddingBytes: 0, timeoutMs: probeTimeoutMs, signal })
        if (signal.aborted) return
        if (answer.result === 'ourselves') {
          cell.set({ state: 'proven', controlAddress, provenAtMs: clock.nowMs(), roundTripMs: answer.roundTripMs })
        } else {
          const who = answer.result === 'stranger' ? 'another program answers there' : 'nobody answers there'
          cell.set({ state: 'probing', reason: `${formatHostPort(controlAddress)}: ${who} (${answer.reason})` })
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
