/**
 * The system's ssh knows no proxies: it gets a connection that we made through one, by two named pipes. They lie in a
 * folder of ours alone; a port on loopback would let every user of this machine through the proxy with our password.
 */
import { execFile } from 'node:child_process'
import { constants, openSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { openSocket } from './transport.js'

const run = promisify(execFile)

/**
 * Joins its input and output to the pipes `$1` (from us) and `$2` (to us). Opened for both ways first, a pipe makes
 * nobody wait for its other end, which may be gone. Stderr is let go: that it ends is how we know that ssh said all.
 */
const JOIN = 'exec 3<>"$1" 4<"$1" 3<>"$2" 5>"$2" 3<&-; cat <&4 5>&- 2>/dev/null & exec cat >&5 4<&- 2>/dev/null'

export interface ProxyPipes {
  /** The command that ssh reaches the target with; good for one connection. */
  readonly command: readonly string[]
  /** What the way through the proxy failed with. */
  readonly failure: () => GatewayError | undefined
  /** Once ssh is gone, or will not come. */
  readonly close: () => void
}

async function makePipes(paths: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await run('mkfifo', ['-m', '600', ...paths], { timeout: 5_000, signal })
  } catch (error) {
    if (signal.aborted) throw new GatewayError('E_CANCELLED', 'stopped')
    const why = messageOf(error).trim().split('\n').at(-1) ?? ''
    throw new GatewayError('E_CONNECT', `no pipe to reach the proxy by can be made: ${why}`, {
      remedy:
        'look at the space in the folder for temporary files and at mkfifo (coreutils), or choose the back end ssh2',
      // Only what is not installed is a reason for another back end: one that is post-quantum is not given up for less.
      ...(codeOf(error) === 'ENOENT' ? { details: { step: 'ssh' } } : {}),
      cause: error,
    })
  }
}

/**
 * Our end of a pipe. Opened for both ways: it waits for no ssh, and no end comes before ssh was there. That ssh is gone is
 * known from the process.
 */
function openPipe(path: string, way: { readable: boolean; writable: boolean }): net.Socket {
  return new net.Socket({ fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK), ...way }).on('error', () => {})
}

function openPipes(down: string, up: string): { toSsh: net.Socket; fromSsh: net.Socket } {
  const toSsh = openPipe(down, { readable: false, writable: true })
  try {
    return { toSsh, fromSsh: openPipe(up, { readable: true, writable: false }) }
  } catch (error) {
    toSsh.destroy()
    throw error
  }
}

/**
 * Connects to the target through the proxy of the options, while ssh starts, and passes on what goes both ways.
 * `folder` is 0700 and ours. Rejects with E_CONNECT or E_CANCELLED; a proxy that fails ends ssh's connection instead.
 */
export async function startProxyPipes(
  folder: string,
  target: HostPort,
  options: TunnelOptions,
  timings: TunnelTimings,
  signal: AbortSignal,
): Promise<ProxyPipes> {
  const [down, up] = [join(folder, 'down'), join(folder, 'up')]
  await makePipes([down, up], signal)
  const { toSsh, fromSsh } = openPipes(down, up)
  const stop = new AbortController()
  let failure: GatewayError | undefined
  const close = (): void => {
    stop.abort()
    toSsh.destroy()
    fromSsh.destroy()
  }
  openSocket(target, options, timings, stop.signal).then(
    ({ stream: far }) => {
      far.on('error', () => {})
      if (stop.signal.aborted) return void far.destroy()
      // What the server said last still goes to ssh.
      far.once('close', () => (far.readableEnded ? toSsh.end() : toSsh.destroy()))
      for (const pipe of [toSsh, fromSsh]) pipe.once('close', () => far.destroy())
      far.pipe(toSsh)
      fromSsh.pipe(far)
    },
    (error: unknown) => {
      if (error instanceof GatewayError && !stop.signal.aborted) failure = error
      close()
    },
  )
  return { command: ['sh', '-c', JOIN, 'sh', down, up], failure: () => failure, close }
}
