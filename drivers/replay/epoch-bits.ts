/**
 * What a T2 file of the BB84 protocol lacks: the bit of each of its events, which the side with fewer events keeps in a
 * T3 file of its own (before sifting). Basis and bit together name the detector.
 */
import { createReadStream } from 'node:fs'
import { GatewayError } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import { epochName, type EpochHeader } from '../../src/device/event-formats/epoch-header.js'
import { openStream } from '../../src/device/event-formats/open-stream.js'

const BB84 = 1
/** A run of 0.54 s holds far fewer. */
const MOST_EVENTS = 64_000_000

/** The bits of one epoch, in the order of its events. */
export interface EpochBits {
  /** Throws E_CONFIG where these are not the bits of the T2 file with that header. */
  requireFit(t2: EpochHeader, t2Name: string): void
  /** Input pattern of the next event, whose basis this is: inputs are V, −, H, + from input 1 on. */
  readonly patternOf: (basis: number) => number
  /** They are what a key is made of. */
  wipe(): void
}

/** Reads a T3 file. Rejects with E_CONFIG or E_FORMAT naming it. */
export async function readEpochBits(path: string, signal: AbortSignal): Promise<EpochBits> {
  const refuse = (what: string): GatewayError =>
    new GatewayError('E_CONFIG', `${path}: ${what}`, {
      remedy: 'name with "bits" the T3 file of the same epoch and side, as it was before sifting',
    })
  const file = createReadStream(path)
  // Where it is not there, reading says so.
  file.on('error', () => {})
  const bits: number[] = []
  let header: EpochHeader | undefined
  try {
    const stream = await openStream(file, { name: path, format: 't3', signal })
    await stream.read({ tags: () => {} }, (bit) => {
      if (bits.length === MOST_EVENTS) throw refuse(`more than ${MOST_EVENTS} entries`)
      bits.push(bit)
    })
    if (stream.opened.kind === 'list') header = stream.opened.reader.header
  } finally {
    file.destroy()
  }
  if (header === undefined) throw refuse('no T3 file')
  const { epoch, length, fields } = header
  const [width = 0] = fields
  if (width !== 1) throw refuse(`${width} bits an entry, not 1`)
  if (length !== bits.length) throw refuse(`cut off: ${bits.length} of ${length} bits`)
  const kept = Uint8Array.from(bits)
  bits.fill(0)
  let next = 0
  return {
    requireFit(t2, t2Name) {
      const [, baseBits = 0, protocol = 0] = t2.fields
      if (baseBits !== 1 || protocol !== BB84)
        throw refuse(
          `${t2Name} is of protocol ${protocol} with ${baseBits} base bits: bits belong to protocol 1 with 1`,
        )
      if (t2.epoch !== epoch) throw refuse(`it is of epoch ${epochName(epoch)}, ${t2Name} of ${epochName(t2.epoch)}`)
      if (t2.length !== length) throw refuse(`${length} bits, and ${t2Name} announces ${t2.length} events`)
    },
    patternOf(basis) {
      const bit = kept[next] ?? 0
      next += 1
      return 1 << ((basis & 1) + 2 * bit)
    },
    wipe: () => wipe(kept),
  }
}
