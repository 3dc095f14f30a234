/**
 * What a receiver set to `readBaud` makes of bytes that were sent 8N1 at `sentBaud`: the line's level over time, read
 * again at the other rate from each falling edge on, as a UART does. Equal rates give the same bytes.
 */
export function readAtOtherRate(bytes: Uint8Array, sentBaud: number, readBaud: number): Uint8Array {
  if (sentBaud === readBaud) return Uint8Array.from(bytes)
  const level = (bit: number): number => {
    if (bit < 0 || bit >= bytes.length * 10) return 1
    const place = bit % 10
    if (place === 0) return 0
    if (place === 9) return 1
    return ((bytes[Math.floor(bit / 10)] ?? 0) >> (place - 1)) & 1
  }
  const sentBitsPerReadBit = sentBaud / readBaud
  const received: number[] = []
  let at = 0 // in bits of the sender
  const end = bytes.length * 10
  while (at < end) {
    if (level(Math.floor(at)) === 1) {
      at = Math.floor(at) + 1
      continue
    }
    let byte = 0
    for (let place = 0; place < 8; place += 1) {
      byte |= level(Math.floor(at + (1.5 + place) * sentBitsPerReadBit)) << place
    }
    received.push(byte)
    at += 9.5 * sentBitsPerReadBit
  }
  return Uint8Array.from(received)
}
