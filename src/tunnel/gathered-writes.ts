/** Fewer and larger packets on forwarded connections. */
import type { Duplex } from 'node:stream'

type Write = (chunk: Buffer, encoding: BufferEncoding, callback: (error?: Error | null) => void) => void
type GatheredWrite = (chunks: readonly { chunk: Buffer }[], callback: (error?: Error | null) => void) => void

/** As far as a stream's own methods are concerned. */
interface WritingInside {
  _write: Write
  _writev?: GatheredWrite | null
}

/**
 * HTTP/2 writes the head and the body of each frame apart. An ssh2 channel makes an encrypted packet of each, and each
 * packet is a system call. Here what is written together is one packet (or as few as it fits in), and the packets of one
 * turn of the event loop leave `carrier` together.
 */
export function gatherWrites(channel: Duplex, carrier: Duplex): void {
  const inside = channel as unknown as WritingInside
  const write = inside._write.bind(channel)
  inside._write = (chunk, encoding, callback) => {
    carrier.cork()
    process.nextTick(() => carrier.uncork())
    write(chunk, encoding, callback)
  }
  inside._writev = (chunks, callback) =>
    inside._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', callback)
}
