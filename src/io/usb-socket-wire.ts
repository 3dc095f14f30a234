/** What an emulated USB device and its host say to each other over a local socket: one JSON object a line, bytes as base64. */
import type { Socket } from 'node:net'
import { z } from 'zod'

const whole = z.number().int().nonnegative()
const bytes = z.base64().transform((text) => Uint8Array.from(Buffer.from(text, 'base64')))

const control = z.object({ requestType: whole, request: whole, value: whole, index: whole })

/** From the host. `n` names the answer. */
export const hostMessageSchema = z.discriminatedUnion('do', [
  z.object({ n: whole, do: z.literal('list') }),
  z.object({
    n: whole,
    do: z.literal('open'),
    selector: z.object({ vendorId: whole, productId: whole, serialNumber: z.string().optional() }),
  }),
  z.object({ n: whole, do: z.literal('read'), endpoint: whole, length: whole, timeoutMs: z.number() }),
  z.object({ n: whole, do: z.literal('stream'), endpoint: whole, length: whole }),
  z.object({ n: whole, do: z.literal('unstream'), endpoint: whole }),
  z.object({ n: whole, do: z.literal('write'), endpoint: whole, bytes, timeoutMs: z.number() }),
  z.object({ n: whole, do: z.literal('controlIn'), control, length: whole, timeoutMs: z.number() }),
  z.object({ n: whole, do: z.literal('controlOut'), control, bytes, timeoutMs: z.number() }),
  /** What was asked as `which` is not wanted any more. */
  z.object({ n: whole, do: z.literal('stop'), which: whole }),
])

const device = z.object({ vendorId: whole, productId: whole, serialNumber: z.string().optional(), place: z.string() })

export type HostMessage = z.input<typeof hostMessageSchema>
export type HostSaid = z.output<typeof hostMessageSchema>

/** From the device: answers by `n`, and what comes unasked. */
export const deviceMessageSchema = z.union([
  z.object({
    n: whole,
    ok: z.object({
      devices: z.array(device).optional(),
      bytes: bytes.optional(),
      /** Packet sizes by endpoint address. */
      packets: z.record(z.string(), whole).optional(),
    }),
  }),
  z.object({ n: whole, error: z.object({ code: z.string(), message: z.string() }) }),
  z.object({ stream: whole, bytes }),
  z.object({ closed: z.object({ cause: z.enum(['closed', 'unplugged', 'error']), message: z.string() }) }),
  z.object({ changed: z.literal(true) }),
])
export type DeviceMessage = z.input<typeof deviceMessageSchema>
export type DeviceSaid = z.output<typeof deviceMessageSchema>

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** Calls `hear` with each line of a socket, parsed; what is no JSON of that schema ends the socket. */
export function hearMessages<T>(socket: Socket, schema: z.ZodType<T>, hear: (message: T) => void): void {
  let held = ''
  socket.setEncoding('utf8')
  socket.on('data', (text: string) => {
    const lines = (held + text).split('\n')
    held = lines.pop() ?? ''
    for (const line of lines) {
      const message = schema.safeParse(parseJson(line))
      if (!message.success) {
        socket.destroy()
        return
      }
      hear(message.data)
    }
  })
  socket.on('error', () => {}) // `close` follows.
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

export function say(socket: Socket, message: HostMessage | DeviceMessage): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(message)}\n`)
}
