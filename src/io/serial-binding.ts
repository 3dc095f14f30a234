/** The part of serialport's bindings that we use: its own for every system, and SerialPortMock's, both fit. */
export interface SerialBinding {
  open(options: SerialBindingOptions): Promise<SerialBindingPort>
}

export interface SerialBindingOptions {
  path: string
  baudRate: number
  dataBits: 5 | 6 | 7 | 8
  parity: 'none' | 'even' | 'odd'
  stopBits: 1 | 2
  rtscts: boolean
  xon: boolean
  xoff: boolean
  lock: boolean
}

export interface SerialBindingPort {
  readonly isOpen: boolean
  close(): Promise<void>
  read(buffer: Buffer, offset: number, length: number): Promise<{ bytesRead: number }>
  write(buffer: Buffer): Promise<void>
  update(options: { baudRate: number }): Promise<void>
  set(options: { dtr: boolean }): Promise<void>
}

/** A port of the Linux and macOS bindings, which show their descriptor and what they wait for it with. */
export interface PollablePort extends SerialBindingPort {
  readonly fd: number
  readonly poller: { once(event: 'readable', listener: (error: Error | null) => void): unknown }
}

export function isPollable(port: SerialBindingPort): port is PollablePort {
  if (!('fd' in port) || !('poller' in port)) return false
  const { fd, poller } = port
  return typeof fd === 'number' && typeof poller === 'object' && poller !== null && 'once' in poller
}

/** serialport's own binding for this system, loaded when first needed. */
export async function systemBinding(): Promise<SerialBinding> {
  const { SerialPort } = await import('serialport')
  return SerialPort.binding
}
