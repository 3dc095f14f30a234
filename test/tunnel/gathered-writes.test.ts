import { once } from 'node:events'
import { Duplex, PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { CarriedStream } from '../../src/tunnel/carried-stream.js'
import { gatherWrites } from '../../src/tunnel/gathered-writes.js'

/** Notes each write that reaches its inside: one of several chunks as one. */
class Noting extends Duplex {
  readonly writes: string[][] = []
  constructor(private readonly onWrite: (chunk: Buffer) => void = () => {}) {
    super()
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.writes.push([chunk.toString()])
    this.onWrite(chunk)
    callback()
  }
}

class NotingMany extends Noting {
  override _writev(chunks: { chunk: Buffer }[], callback: () => void): void {
    this.writes.push(chunks.map(({ chunk }) => chunk.toString()))
    callback()
  }
}

describe('writes on a forwarded connection', () => {
  it('that belong together become one packet, in order, and each is acknowledged', async () => {
    const carrier = new NotingMany()
    const channel = new Noting((chunk) => carrier.write(chunk))
    gatherWrites(channel, carrier)
    const done: number[] = []
    channel.cork()
    for (const [index, text] of ['head ', 'body ', 'trailer'].entries()) channel.write(text, () => done.push(index))
    channel.uncork()
    channel.end()
    await once(channel, 'finish')
    expect(channel.writes).toEqual([['head body trailer']])
    expect(done).toEqual([0, 1, 2])
  })

  it('leave the carrier together at the end of the turn', async () => {
    const carrier = new NotingMany()
    const channels = ['one', 'two', 'three'].map((text) => {
      const channel = new Noting((chunk) => carrier.write(chunk))
      gatherWrites(channel, carrier)
      channel.write(text)
      return channel
    })
    expect(carrier.writes).toEqual([])
    await new Promise((resolve) => setImmediate(resolve))
    expect(carrier.writes).toEqual([['one', 'two', 'three']])
    expect(channels.map(({ writes }) => writes.length)).toEqual([1, 1, 1])
    expect(carrier.writableCorked).toBe(0)
  })

  it('pass a carried stream together, in order', async () => {
    const inside = new NotingMany()
    const stream = new CarriedStream({ readable: new PassThrough(), writable: inside, kill: () => {} })
    const done: string[] = []
    stream.cork()
    for (const text of ['a', 'b', 'c']) stream.write(text, () => done.push(text))
    stream.uncork()
    stream.end()
    await once(stream, 'finish')
    expect(inside.writes).toEqual([['a', 'b', 'c']])
    expect(done).toEqual(['a', 'b', 'c'])
    stream.destroy()
  })
})
