import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'

/** Named switches of a Dummy device; all may be changed while it runs. */
export interface DummyFaults {
  /** A running Alice never answers EndSession: the original's deadlock. Default on for Alice. */
  endSessionHangs: boolean
  /** A second SessionStarting without SessionEnding leaves the device without frames. Default on for Bob. */
  secondStartSticks: boolean
  /** Bob: this many of the next frames are lost before sifting. */
  loseFrames: number
  /** Bob: one bit of this many of the next sifted frames is wrong. */
  corruptFrames: number
}

export interface DummyDeviceOptions {
  readonly side: 'alice' | 'bob'
  /** Default as the original makes it: `dummyqkd__0__16_alice`. */
  readonly id?: string
  readonly host?: string
  readonly port?: number
  /** What it registers and calls itself; default the bound address. */
  readonly controlAddress?: string
  /** Registers there, and again every 10 s until that was answered OK. */
  readonly siteAgent?: string
  readonly dialect?: 'upstream' | 'openqkd'
  /** 16 in the original, 32 in OpenQKDNetwork's fork. */
  readonly bytesPerKey?: number
  /** 100,000 in the original. */
  readonly qubitsPerFrame?: number
  /** 1 s in the original. */
  readonly frameMs?: number
  /** How long Alice waits for the frame that Bob asks about; 500 ms in the original. */
  readonly frameWaitMs?: number
  /** How long a peer is waited for in SessionStarting; 10 s in the original. */
  readonly connectWaitMs?: number
  readonly registerRetryMs?: number
  readonly faults?: Partial<DummyFaults>
  readonly clock?: Clock
  /** Alice's qubits. */
  readonly random?: Random
}
