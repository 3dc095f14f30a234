import { describe, it } from 'vitest'
import { fuzzDriverCodecs } from './support/codec-fuzz.js'
import { seededRandom } from './support/pair.js'

describe("the drivers' codecs", () => {
  it('decode, wait for more or refuse, whatever comes', () => {
    const random = seededRandom(20_251)
    // A codec that does anything else throws here.
    for (let i = 0; i < 5_000; i += 1) fuzzDriverCodecs(random)
  })
})
