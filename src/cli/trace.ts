import type { Command } from 'commander'
import { GatewayError, messageOf } from '../base/errors.js'
import type { CatalogueEntry } from '../device/catalogue.js'
import { plainDecoder, type TraceDecoder, type TracePiece } from '../device/trace-contract.js'
import type { ByteTransport, SerialSettings } from '../io/contract.js'
import type { TraceItem, TraceWriter } from '../io/wire-trace.js'
import type { CliEnvironment } from './environment.js'
import { noteRow, pieceJson, pieceRows, recordedBytes } from './trace-view.js'

interface TraceFlags {
  driver?: string
  baud?: string
  driverOption?: string[]
  record?: string
  replay?: string
  play?: boolean
  link?: string
  listen?: boolean
  speed: string
  showKeys?: boolean
  json?: boolean
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]
const DEFAULT_BAUD = 9_600

function driverOptionsOf(flags: TraceFlags): Record<string, string> {
  const options: Record<string, string> = {}
  for (const text of flags.driverOption ?? []) {
    const at = text.indexOf('=')
    if (at < 1) throw new GatewayError('E_USAGE', `--driver-option ${text}: write it as name=value`)
    options[text.slice(0, at)] = text.slice(at + 1)
  }
  if (flags.baud !== undefined) options['baud'] = flags.baud
  return options
}

/** Shows what goes over the line, piece by piece, and writes it down where asked. */
class TraceView {
  #decoder: TraceDecoder
  #lastDirection: 'rx' | 'tx' = 'rx'
  #lastAtUs = 0

  constructor(
    private readonly env: CliEnvironment,
    private readonly flags: TraceFlags,
    private readonly createDecoder: () => TraceDecoder,
    private readonly writer: TraceWriter | undefined,
  ) {
    this.#decoder = createDecoder()
  }

  bytes(atUs: number, direction: 'rx' | 'tx', bytes: Uint8Array): void {
    this.#lastAtUs = atUs
    this.#lastDirection = direction
    this.#show(atUs, direction, this.#decoder.push(direction, bytes))
  }

  /** The port was opened, lost or set anew: what was said before is over. */
  note(atUs: number, text: string): void {
    this.end()
    this.#decoder = this.createDecoder()
    this.env.stdout.write(`${noteRow(atUs, text, this.flags.json === true)}\n`)
    this.writer?.write({ atUs, direction: 'note', text })
  }

  end(): void {
    this.#show(this.#lastAtUs, this.#lastDirection, this.#decoder.flush())
  }

  #show(atUs: number, direction: 'rx' | 'tx', pieces: readonly TracePiece[]): void {
    const showKeys = this.flags.showKeys === true
    const format = this.flags.json === true ? pieceJson : pieceRows
    for (const piece of pieces) {
      this.env.stdout.write(`${format(atUs, direction, piece, showKeys)}\n`)
      // A masked frame does not decode again: its name is written down beside it.
      if (!showKeys) this.writer?.write({ atUs, direction: 'note', text: piece.label })
      this.writer?.write({ atUs, direction, bytes: recordedBytes(piece, showKeys) })
      for (const { bytes, secret } of piece.parts) if (secret) bytes.fill(0)
    }
  }
}

/** The driver that was named, or the only one that the device can be for; undefined where it cannot be told. */
async function entryFor(device: string, flags: TraceFlags): Promise<CatalogueEntry | undefined> {
  const { findEntry } = await import('../device/catalogue.js')
  if (flags.driver !== undefined) return findEntry(flags.driver)
  const { chooseDriver } = await import('../device/detection.js')
  try {
    return (await chooseDriver(device)).entry
  } catch {
    return undefined
  }
}

/** Line settings and decoder for listening to a device. */
async function listening(
  entry: CatalogueEntry | undefined,
  flags: TraceFlags,
): Promise<{ settings: SerialSettings; createDecoder: () => TraceDecoder; spokenTo: boolean }> {
  const options = driverOptionsOf(flags)
  if (entry?.loadTrace !== undefined) {
    const factory = await entry.loadTrace()
    const spokenTo = factory.spokenTo === true
    return {
      settings: factory.settings(spokenTo ? {} : options),
      createDecoder: () => factory.createDecoder(),
      spokenTo,
    }
  }
  const baudRate = Number(options['baud'] ?? DEFAULT_BAUD)
  if (!Number.isInteger(baudRate) || baudRate < 50) {
    throw new GatewayError('E_USAGE', `--baud ${flags.baud ?? ''}: a line rate is a whole number, such as 9600`)
  }
  return { settings: { baudRate }, createDecoder: plainDecoder, spokenTo: false }
}

/** Until the port closes or the command is to end. */
async function listen(port: ByteTransport, signal: AbortSignal): Promise<void> {
  try {
    await new Promise<void>((resolve) => {
      port.onClose(() => resolve())
      signal.addEventListener('abort', () => resolve(), { once: true })
      port.onData((chunk) => chunk.fill(0))
    })
  } finally {
    await port.close()
  }
}

async function traceLive(device: string, flags: TraceFlags, env: CliEnvironment): Promise<void> {
  const { createNodeIo } = await import('../io/node-io.js')
  const { createTraceFile, tapSerial } = await import('../io/wire-trace.js')
  const { createLogger } = await import('../observe/log.js')
  const { clock, signal } = env
  const entry = await entryFor(device, flags)
  const { settings, createDecoder, spokenTo } = await listening(entry, flags)
  const log = createLogger({ level: 'warn', format: 'pretty', destination: env.stderr })
  const masked = flags.showKeys !== true
  const header = { startedUnixMs: clock.nowMs(), path: device, driver: entry?.descriptor.name, masked }
  const writer = flags.record === undefined ? undefined : await createTraceFile(flags.record, header)
  const view = new TraceView(env, flags, createDecoder, writer)
  const startMs = clock.monotonicMs()
  const nowUs = (): number => (clock.monotonicMs() - startMs) * 1_000
  const io = createNodeIo({ clock, log })
  const open = tapSerial(io.openSerial, {
    bytes: (direction, bytes) => view.bytes(nowUs(), direction, bytes),
    note: (text) => view.note(nowUs(), text),
  })
  try {
    if (entry !== undefined && spokenTo && flags.listen !== true) {
      // Its driver speaks to it; the trace shows both directions.
      const { random } = env
      const options = driverOptionsOf(flags)
      const context = { device, side: 'alice', options, io: { ...io, openSerial: open }, clock, random, log } as const
      await (await entry.loadDriver()).create(context).run(signal)
    } else {
      await listen(await open(device, settings, signal), signal)
    }
  } finally {
    view.end()
    await writer?.close()
  }
}

/** Shows a recorded trace; its pace is that of reading. */
async function showTrace(items: AsyncIterable<TraceItem>, flags: TraceFlags, env: CliEnvironment): Promise<void> {
  let view: TraceView | undefined
  for await (const item of items) {
    if (item.type === 'header') {
      const { header } = item
      const { findEntry } = await import('../device/catalogue.js')
      const name = header.masked ? undefined : (flags.driver ?? header.driver)
      const { createDecoder } = await listening(name === undefined ? undefined : findEntry(name), flags)
      // In a masked file there is nothing left to hide.
      view = new TraceView(env, header.masked ? { ...flags, showKeys: true } : flags, createDecoder, undefined)
      const masked = header.masked ? ', key bytes replaced by zeros' : ''
      view.note(0, `${header.path}, recorded ${new Date(header.startedUnixMs).toISOString()}${masked}`)
    } else if (item.record.direction === 'note') {
      view?.note(item.record.atUs, item.record.text)
    } else {
      view?.bytes(item.record.atUs, item.record.direction, item.record.bytes)
    }
  }
  view?.end()
}

/** Waits until a program has taken the port, and a little longer: opening throws away what came before. */
async function untilTaken(path: string, env: CliEnvironment): Promise<void> {
  const { portHolders } = await import('../io/holders.js')
  const { resolvePath } = await import('../io/watch.js')
  const { sleep } = await import('../base/clock.js')
  const node = resolvePath(path) ?? path
  while (!(await portHolders(node)).some(({ locked }) => locked)) await sleep(env.clock, 100, env.signal)
  await sleep(env.clock, 200, env.signal)
}

/** Plays a recorded trace on a PTY, as if the device spoke again. */
async function playTrace(file: string, flags: TraceFlags, env: CliEnvironment): Promise<void> {
  const { openPtyLine } = await import('../io/pty.js')
  const { readTraceFile, replayTrace } = await import('../io/wire-trace.js')
  const { clock, random, signal } = env
  const speed = flags.speed === 'full' ? Infinity : Number(flags.speed)
  if (!(speed > 0)) throw new GatewayError('E_USAGE', `--speed ${flags.speed}: a number above 0, or "full"`)
  const line = await openPtyLine({ clock, random, ...(flags.link === undefined ? {} : { link: flags.link }) })
  try {
    const ready = { event: 'ready', path: line.path, transport: line.transport, pid: process.pid }
    env.stdout.write(flags.json === true ? `${JSON.stringify(ready)}\n` : `${file} plays on ${line.path}\n`)
    const playing = untilTaken(line.path, env).then(() =>
      replayTrace(readTraceFile(file), line, { clock, speed, signal }),
    )
    const bytes = await playing.catch((error: unknown) => {
      if (signal.aborted) return 0
      throw error
    })
    env.stdout.write(
      flags.json === true ? `${JSON.stringify({ event: 'played', bytes })}\n` : `played ${bytes} bytes\n`,
    )
    // What was read last is still in the PTY: it must not vanish under the reader.
    if (!signal.aborted) {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    }
  } finally {
    await line.close()
  }
}

async function runTrace(device: string | undefined, flags: TraceFlags, env: CliEnvironment): Promise<void> {
  if (flags.replay !== undefined && flags.play === true) return playTrace(flags.replay, flags, env)
  if (flags.replay !== undefined) {
    const { readTraceFile } = await import('../io/wire-trace.js')
    return showTrace(readTraceFile(flags.replay), flags, env)
  }
  if (device === undefined) {
    throw new GatewayError('E_USAGE', 'trace: name a device, or a recorded file with --replay', {
      remedy: 'qkd-gw trace /dev/ttyUSB0 --driver qix',
    })
  }
  try {
    await traceLive(device, flags, env)
  } catch (error) {
    if (env.signal.aborted) return
    if (!(error instanceof GatewayError)) throw new GatewayError('E_DEVICE_IO', `${device}: ${messageOf(error)}`)
    if (error.code !== 'E_DEVICE_NOT_A_DEVICE') throw error
    throw new GatewayError(error.code, error.message, {
      remedy: `${error.remedy ?? ''}; a recorded trace is shown with --replay ${device}`,
      details: error.details,
    })
  }
}

/** `qkd-gw trace [device]`: what goes over a line, live, recorded or replayed. */
export function addTraceCommand(program: Command, env: CliEnvironment): void {
  program
    .command('trace [device]')
    .description('hex dump of a serial line with times, directions and decoded frames; key bytes are masked')
    .option('--driver <name>', 'decode as this driver (default: by USB strings, otherwise not decoded)')
    .option('--baud <rate>', "line rate (default: the driver's, otherwise 9600)")
    .option('--driver-option <name=value>', 'an option of the driver; may be given several times', collect)
    .option('--listen', 'only listen, also where the device has to be spoken to (default: its driver runs then)')
    .option('--show-keys', 'show and record key bytes as they are: the output is then secret')
    .option(
      '--record <file>',
      'write it down too, for --replay (a new file, 0600; key bytes as zeros without --show-keys)',
    )
    .option('--replay <file>', 'show a recorded trace instead of a device')
    .option('--play', 'with --replay: play it on a pseudo-terminal once a program has opened that')
    .option('--link <path>', 'with --play: stable name of that pseudo-terminal')
    .option('--speed <n>', 'with --play: times as fast as recorded, or "full"', '1')
    .option('--json', 'one JSON object a line')
    .addHelpText(
      'after',
      `
The port is opened exclusively: stop the gateway that holds it first. Bytes that no decoder understands are masked too,
unless they are plain text: they may be the rest of a key.`,
    )
    .action((device: string | undefined, flags: TraceFlags) => runTrace(device, flags, env))
}
