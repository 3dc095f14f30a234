/** Requests to a running ssh master over its control socket. */
import { execFile } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { CarriedStream } from './carried-stream.js'
import { askMaster, type MuxAnswer, type MuxRequest } from './openssh-mux.js'
import { controlPath } from './openssh-command.js'
import { OpensshProcess } from './openssh-process.js'

/** Never a connection of its own: where the master is gone, `false` is what it would connect through. */
const ONLY_THE_MASTER = ['-F', 'none', '-o', 'BatchMode=yes', '-o', 'ProxyCommand=false']

/** How long the master's word on a refusal may come after the refusal itself, ms. */
const REASON_TIMEOUT_MS = 1_000

/** The host is in the master's hands; ssh wants a word there all the same. */
const ANY_HOST = 'master'

export class OpensshControl {
  constructor(
    private readonly program: string,
    private readonly socketPath: string,
    private readonly clock: Clock,
  ) {}

  /** Rejects with E_DEADLINE, E_CANCELLED, or E_CONNECT where the master gives no answer. */
  request(request: MuxRequest, timeoutMs: number): Promise<MuxAnswer> {
    return withDeadline(this.clock, timeoutMs, `ssh: ${request.ask}`, (signal) =>
      askMaster(this.socketPath, request, signal),
    )
  }

  /** Runs a command on the server; undefined where that fails. */
  exec(command: string, timeoutMs: number): Promise<string | undefined> {
    const args = [...ONLY_THE_MASTER, '-S', controlPath(this.socketPath), '-T', '--', ANY_HOST, command]
    return new Promise((resolve) => {
      execFile(this.program, args, { timeout: timeoutMs, env: { ...process.env, LC_ALL: 'C' } }, (error, stdout) =>
        resolve(error === null ? stdout : undefined),
      ).stdin?.end()
    })
  }

  /** Runs `ssh -W`; the reason of a refusal is among what `master` says. */
  async dial(
    target: HostPort,
    timeoutMs: number,
    master: Pick<OpensshProcess, 'facts' | 'until'>,
    signal: AbortSignal,
  ): Promise<Duplex> {
    const where = formatHostPort(target)
    const before = master.facts.openFailures
    const ssh = OpensshProcess.piped(
      this.program,
      [...ONLY_THE_MASTER, '-v', '-S', controlPath(this.socketPath), '-W', where, '--', ANY_HOST],
      this.clock,
    )
    try {
      const what = `connecting to ${where} from the server`
      await withDeadline(this.clock, timeoutMs, what, () => ssh.until((facts) => facts.muxOpened), signal)
    } catch (error) {
      ssh.kill()
      throw error
    }
    if (ssh.facts.muxOpened) {
      const stream = new CarriedStream({ readable: ssh.stdout, writable: ssh.stdin, kill: () => ssh.kill() })
      return stream.on('error', () => {})
    }
    // It comes by another pipe than the end of `ssh -W`, and on a busy machine after it.
    await withDeadline(this.clock, REASON_TIMEOUT_MS, `the reason of ${where}`, () =>
      master.until(({ openFailures }) => openFailures > before),
    ).catch(() => {})
    if (signal.aborted) throw new GatewayError('E_CANCELLED', `connecting to ${where} from the server: stopped`)
    const { openFailures, said } = master.facts
    const reason = openFailures > before ? (said.findLast((line) => line.includes('open failed')) ?? '') : ''
    const dial = /prohibited/.test(reason) ? 'prohibited' : /refused/.test(reason) ? 'refused' : 'failed'
    throw new GatewayError(
      'E_CONNECT',
      dial === 'prohibited'
        ? `the server does not permit connections to ${where}`
        : `the server cannot connect to ${where} (${reason.replace(/^channel \d+: open failed: /, '')})`,
      {
        ...(dial === 'prohibited' ? { remedy: `add permitopen="${where}" to the key's line in authorized_keys` } : {}),
        details: { host: target.host, port: target.port, dial },
      },
    )
  }
}
