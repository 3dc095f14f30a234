import { Duplex, type Readable, type Writable } from 'node:stream'

/** A stream that SSH is spoken over. */
export type ByteStream = Duplex & { readonly bytesWritten: number }

export interface CarriedParts {
  readonly readable: Readable
  readonly writable: Writable
  /** Ends what carries the stream, at once; called once, when the stream is destroyed. */
  readonly kill: () => void
}

/**
 * A byte stream carried by something else (a child's stdio, a channel of another SSH connection) that is destroyed as
 * a socket is: at once, together with its carrier.
 */
export class CarriedStream extends Duplex {
  /** As of a socket. */
  bytesWritten = 0

  constructor(private readonly parts: CarriedParts) {
    super({ allowHalfOpen: false })
    const { readable, writable } = parts
    readable.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) readable.pause()
    })
    readable.on('end', () => this.push(null))
    readable.on('close', () => {
      if (!readable.readableEnded) this.destroy()
    })
    readable.on('error', () => this.destroy())
    writable.on('error', () => this.destroy())
    readable.pause()
  }

  override _read(): void {
    this.parts.readable.resume()
  }

  /**
   * What is written within one turn of the event loop leaves in one piece: each piece wakes the carrier, which makes a
   * packet of its own of it.
   */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    const { writable } = this.parts
    this.bytesWritten += chunk.length
    if (writable.writableCorked === 0) {
      writable.cork()
      setImmediate(() => writable.uncork())
    }
    if (writable.write(chunk)) callback()
    else writable.once('drain', callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.parts.writable.end(() => callback())
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.parts.kill()
    callback(error)
  }
}
