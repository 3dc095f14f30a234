import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command } from 'commander'
import type { Clock } from '../base/clock.js'
import { codeOf, explanationOf, GatewayError } from '../base/errors.js'
import type { DeviceEmulator } from '../device/emulator-contract.js'
import type { MemoryUsb } from '../io/usb-memory.js'
import type { CliEnvironment } from './environment.js'

interface EmulateFlags {
  pair?: string
  timeBased?: boolean
  rate?: string
  option?: string[]
  link?: string
  usbSocket?: string
  fault?: string[]
  json?: boolean
  untilStdinEnds?: boolean
}

interface EmulatedUsb {
  cable: MemoryUsb
  socket: string
  end(): Promise<void>
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]

function emulatorOptionsOf(flags: EmulateFlags): Record<string, string> {
  const options: Record<string, string> = {}
  for (const text of flags.option ?? []) {
    const at = text.indexOf('=')
    if (at < 1) throw new GatewayError('E_USAGE', `--option ${text}: write it as name=value`)
    options[text.slice(0, at)] = text.slice(at + 1)
  }
  if (flags.pair !== undefined) options['pair'] = flags.pair
  if (flags.timeBased === true) options['time-based'] = 'on'
  if (flags.rate !== undefined) options['rate'] = flags.rate
  return options
}

/** `corrupt:3` or `unplug:2000,now` → name and arguments. */
function splitFault(text: string): { name: string; args: string[] } {
  const at = text.indexOf(':')
  if (at < 0) return { name: text, args: [] }
  return { name: text.slice(0, at), args: text.slice(at + 1).split(',') }
}

/** What the command says: sentences for people, one JSON object a line for programs. */
class Voice {
  constructor(
    private readonly env: CliEnvironment,
    private readonly json: boolean,
  ) {}

  say(sentence: string, facts: Record<string, unknown>): void {
    this.env.stdout.write(`${this.json ? JSON.stringify(facts) : sentence}\n`)
  }

  failed(error: unknown): void {
    const sentence = explanationOf(error)
    this.say(sentence, { event: 'error', code: codeOf(error) ?? 'E_INTERNAL', message: sentence })
  }
}

async function obey(emulator: DeviceEmulator, line: string, voice: Voice, stop: () => void): Promise<void> {
  const [name = '', ...args] = line.trim().split(/\s+/)
  switch (name) {
    case '':
      return
    case 'quit':
      return stop()
    case 'facts': {
      const facts = emulator.facts()
      const text = Object.entries(facts).map(([key, value]) => `${key} ${value}`)
      return voice.say(text.join(', '), { event: 'facts', ...facts })
    }
    case 'help': {
      const lines = emulator.faults.map((fault) => `  ${`${fault.name} ${fault.usage}`.padEnd(28)} ${fault.meaning}`)
      return voice.say([...lines, '  facts', '  quit'].join('\n'), { event: 'help', faults: emulator.faults })
    }
    default:
      try {
        const said = await emulator.fault(name, args)
        voice.say(said, { event: 'fault', fault: name, args, said })
      } catch (error) {
        voice.failed(error)
      }
  }
}

/** A USB cable of which the host's end is a local socket. */
async function plugUsb(socket: string | undefined, clock: Clock): Promise<EmulatedUsb> {
  const { createMemoryUsb } = await import('../io/usb-memory.js')
  const { serveUsb } = await import('../io/usb-socket-server.js')
  const folder = socket === undefined ? await mkdtemp(join(tmpdir(), 'qkd-gw-usb-')) : undefined
  const path = socket ?? join(folder ?? tmpdir(), 'usb')
  const cable = createMemoryUsb(clock)
  const stop = await serveUsb(path, cable.io)
  return {
    cable,
    socket: path,
    async end() {
      await stop()
      if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    },
  }
}

async function emulate(driverName: string, flags: EmulateFlags, env: CliEnvironment): Promise<void> {
  const { loadEmulator } = await import('../device/catalogue.js')
  const { openPtyLine } = await import('../io/pty.js')
  const { createLogger } = await import('../observe/log.js')
  const { clock, random } = env
  const log = createLogger({ level: 'warn', format: 'pretty', destination: env.stderr })
  const factory = await loadEmulator(driverName)
  const voice = new Voice(env, flags.json === true)
  const ending = new AbortController()
  const signal = AbortSignal.any([env.signal, ending.signal])
  const { cables = 'serial' } = factory
  const line =
    cables === 'usb'
      ? (await import('../io/memory-line.js')).createMemoryLines().create('unused')
      : await openPtyLine({
          ...{ clock, random, baudRate: factory.baudRate },
          ...(flags.link === undefined ? {} : { link: flags.link }),
        })
  const usb = cables === 'serial' ? undefined : await plugUsb(flags.usbSocket, clock)
  try {
    const emulator = factory.create({
      ...{ line, options: emulatorOptionsOf(flags), clock, random, log },
      ...(usb === undefined ? {} : { usb: usb.cable }),
    })
    for (const fault of flags.fault ?? []) {
      const { name, args } = splitFault(fault)
      const said = await emulator.fault(name, args)
      voice.say(said, { event: 'fault', fault: name, args, said })
    }
    const path = cables === 'usb' ? 'usb:' : line.path
    const usbFlag = usb === undefined ? '' : ` --driver-option usb-socket=${usb.socket}`
    const places = [cables === 'usb' ? undefined : line.path, usb?.socket].filter((place) => place !== undefined)
    const side = emulatorOptionsOf(flags)['side'] ?? factory.side ?? 'alice'
    const attach = `; attach it with: qkd-gw attach ${path} --driver ${driverName} --side ${side}${usbFlag}`
    voice.say(`${driverName} emulated on ${places.join(' and ')}${emulator.attachable === false ? '' : attach}`, {
      event: 'ready',
      driver: driverName,
      path,
      transport: cables === 'usb' ? 'usb' : line.transport,
      ...(usb === undefined ? {} : { usbSocket: usb.socket }),
      pid: process.pid,
    })
    const commands = createInterface({ input: env.stdin, terminal: false })
    let turn: Promise<void> = Promise.resolve()
    commands.on('line', (text) => {
      turn = turn.then(() => obey(emulator, text, voice, () => ending.abort()))
    })
    commands.on('close', () => {
      if (flags.untilStdinEnds === true) ending.abort()
    })
    try {
      await emulator.run(signal)
    } finally {
      commands.close()
    }
    voice.say(`stopped: ${JSON.stringify(emulator.facts())}`, { event: 'stopped', ...emulator.facts() })
  } finally {
    await usb?.end()
    await line.close()
  }
}

/** `qkd-gw emulate <driver>`: a device on a PTY, with faults on command. */
export function addEmulateCommand(program: Command, env: CliEnvironment): void {
  program
    .command('emulate <driver>')
    .description(
      'put an emulated device on a pseudo-terminal (its USB cable on a local socket); lines on stdin command faults',
    )
    .option('--pair <seed>', 'the same seed elsewhere gives the same keys under the same ids at the same time')
    .option('--time-based', 'keys and ids that follow from the clock alone')
    .option('--rate <n>', "frames a second (default: what the device's line carries)")
    .option('-o, --option <name=value>', 'any other option of the emulator; may be given several times', collect)
    .option('--link <path>', 'stable name of the device: a symbolic link that survives unplug and replug')
    .option('--usb-socket <path>', 'devices with a USB cable: where its other end is (a local socket)')
    .option('--fault <name[:arg,…]>', 'a fault from the start, such as corrupt:3; may be given several times', collect)
    .option('--until-stdin-ends', 'stop when stdin ends, so that the emulator dies with whoever started it')
    .option('--json', 'one JSON object a line: ready (with the path), fault, error, facts, stopped')
    .addHelpText(
      'after',
      `
Lines on stdin, one command each: help, facts, quit, or a fault with its arguments, for example:
  unplug 2000        pull the cable in the middle of the next frame, put it back after 2 s
  corrupt 3          damage the next three frames
  hang 5000          say nothing for 5 s`,
    )
    .action((driver: string, flags: EmulateFlags) => emulate(driver, flags, env))
}
