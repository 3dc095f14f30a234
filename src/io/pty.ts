import { spawn } from 'node:child_process'
import { closeSync, constants, existsSync, openSync, renameSync, symlinkSync, unlinkSync, writeSync } from 'node:fs'
import { mkdtemp, rm, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ReadStream } from 'node:tty'
import type { Unsubscribe } from '../base/cell.js'
import { type Clock, sleep } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { DeviceLine } from './contract.js'
import { resolvePath } from './watch.js'

const MASTER_FLAGS = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK
const SLAVE_SETTINGS = { dataBits: 8, parity: 'none', stopBits: 1, rtscts: false, lock: false, hupcl: false } as const

/** Unlocks the slave of the master on descriptor 3 and prints its number: the two ioctls that Node lacks. */
const PERL_PTY = `
  open(my $master, "+<&=", 3) or die "descriptor: $!";
  my $unlock = pack("i", 0);
  ioctl($master, 0x40045431, $unlock) or die "unlock: $!";
  my $number = pack("i", 0);
  ioctl($master, 0x80045430, $number) or die "number: $!";
  print unpack("i", $number);
`

/** Runs perl with `fd` as its descriptor 3; resolves with its output. */
function runPerl(script: string, fd: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('perl', ['-e', script], {
      stdio: ['ignore', 'pipe', 'pipe', fd],
      env: { ...process.env, LC_ALL: 'C' },
    })
    let out = ''
    let errors = ''
    child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => (code === 0 ? resolve(out) : reject(new Error(`perl: ${errors.trim()}`))))
  })
}

/** The slave as serialport opens it: raw, at the rate asked for. */
interface Slave {
  getBaudRate(): Promise<{ baudRate: number }>
  close(): Promise<void>
}

/** One PTY whose master this process holds. */
interface Pty {
  readonly master: number
  readonly slave: Slave
  readonly slavePath: string
  readonly reader: ReadStream
}

async function openPty(baudRate: number, onData: (chunk: Buffer) => void): Promise<Pty> {
  const master = openSync('/dev/ptmx', MASTER_FLAGS)
  try {
    const number = (await runPerl(PERL_PTY, master)).trim()
    const slavePath = `/dev/pts/${number}`
    // Held open by ourselves: else the master ends as soon as a gateway closes the port. A fresh PTY echoes and edits
    // lines, and its rate must not look wrong before anyone set one: serialport's opening settles both.
    const { SerialPort } = await import('serialport')
    const slave = await SerialPort.binding.open({ ...SLAVE_SETTINGS, path: slavePath, baudRate })
    const reader = new ReadStream(master)
    reader.on('data', onData)
    reader.on('error', () => {}) // EIO on the way down: the unplug itself.
    return { master, slave, slavePath, reader }
  } catch (error) {
    closeSync(master)
    throw error
  }
}

function release({ reader, slave }: Pty): Promise<void> {
  return new Promise((resolve) => {
    reader.once('close', () => void slave.close().then(resolve, resolve))
    reader.destroy()
  })
}

export interface PtyLineOptions {
  clock: Clock
  random: Random
  /** The rate at which the emulated device itself works; default 9600. */
  baudRate?: number
  /** Stable name, a symbolic link; without it one is made in a folder of its own below the system's temporary folder. */
  link?: string
  /** How long `send` waits for a reader before the rest is lost; default 50 ms. */
  patienceMs?: number
}

class PtyLine implements DeviceLine {
  readonly transport = 'pty'
  readonly #listeners = new Set<(chunk: Uint8Array) => void>()
  readonly #closing = new AbortController()
  #pty: Pty | undefined
  #turn: Promise<unknown> = Promise.resolve()

  constructor(
    readonly path: string,
    private readonly folder: string | undefined,
    private readonly options: PtyLineOptions,
  ) {}

  get plugged(): boolean {
    return this.#pty !== undefined
  }

  onData(listener: (chunk: Uint8Array) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  send(bytes: Uint8Array): Promise<number> {
    const copy = Uint8Array.from(bytes)
    return this.#inTurn(() => this.#sendNow(copy))
  }

  unplug(): Promise<void> {
    // Not in turn: a cable is pulled in the middle of a frame too.
    const pty = this.#pty
    this.#pty = undefined
    if (pty === undefined) return Promise.resolve()
    // The link goes first: the number is given away again at once, and a stale link would point at a stranger's PTY.
    this.#removeLink(pty)
    return release(pty)
  }

  plug(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#pty !== undefined || this.#closing.signal.aborted) return
      const pty = await openPty(this.options.baudRate ?? 9_600, (chunk) => {
        for (const listener of [...this.#listeners]) listener(Uint8Array.from(chunk))
      })
      this.#pty = pty
      const fresh = `${this.path}.${Buffer.from(this.options.random.bytes(6)).toString('hex')}`
      symlinkSync(pty.slavePath, fresh)
      renameSync(fresh, this.path)
    })
  }

  async lineRate(): Promise<number | undefined> {
    const pty = this.#pty
    if (pty === undefined) return undefined
    try {
      return (await pty.slave.getBaudRate()).baudRate
    } catch {
      return undefined // Pulled in the meantime.
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.unplug()
    await this.#turn.catch(() => {})
    await this.unplug()
    if (this.folder !== undefined) await rm(this.folder, { recursive: true, force: true })
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  #removeLink(pty: Pty): void {
    if (resolvePath(this.path) !== pty.slavePath) return
    try {
      unlinkSync(this.path)
    } catch {
      // Somebody else took it away: as good.
    }
  }

  async #sendNow(bytes: Uint8Array): Promise<number> {
    const { clock, patienceMs = 50 } = this.options
    const until = clock.monotonicMs() + patienceMs
    const pty = this.#pty
    let sent = 0
    while (sent < bytes.length && this.#pty === pty && pty !== undefined) {
      try {
        // Not the stream's own write: it treats a master as blocking and would freeze the process on a full line.
        sent += writeSync(pty.master, bytes, sent)
      } catch (error) {
        if (codeOf(error) !== 'EAGAIN') break
        if (clock.monotonicMs() >= until) break
        await sleep(clock, 1, this.#closing.signal).catch(() => {})
      }
    }
    bytes.fill(0)
    return sent
  }
}

/** Whether this system has what PTY lines need: /dev/ptmx and perl. */
export async function ptyAvailable(): Promise<boolean> {
  if (process.platform !== 'linux' || !existsSync('/dev/ptmx')) return false
  try {
    await release(await openPty(9_600, () => {}))
    return true
  } catch {
    return false
  }
}

/**
 * A device's end of a serial cable on a PTY: a real tty for whoever opens `path`. What it does not model: the line's
 * speed (senders pace themselves), parity, breaks and modem lines. Rejects with E_DEVICE_IO where there are no PTYs, and
 * with E_CONFIG where `link` is there already and is no link of ours.
 */
export async function openPtyLine(options: PtyLineOptions): Promise<DeviceLine> {
  const { link } = options
  if (link !== undefined && existsSync(link) && resolvePath(link) === link) {
    throw new GatewayError('E_CONFIG', `${link} is there and is no symbolic link: it stays as it is`, {
      remedy: 'name a path that does not exist yet',
    })
  }
  if (link !== undefined) await unlink(link).catch(() => {})
  const folder = link === undefined ? await mkdtemp(join(tmpdir(), 'qkd-gw-pty-')) : undefined
  const line = new PtyLine(link ?? join(folder ?? tmpdir(), 'tty'), folder, options)
  try {
    await line.plug()
  } catch (error) {
    await line.close()
    if (error instanceof GatewayError) throw error
    throw new GatewayError('E_DEVICE_IO', `no PTY can be made here: ${messageOf(error)}`, {
      remedy: 'PTYs need Linux, /dev/ptmx and perl; without them use the in-memory line',
      cause: error,
    })
  }
  return line
}
