import type { Command } from 'commander'
import { EXIT } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'
import { parseHostPort } from '../base/host-port.js'
import type { CliEnvironment } from './environment.js'

interface TrustFlags {
  fingerprint?: string
  knownHosts?: string
  jump?: string
  proxy?: string
  identity?: string[]
  config?: string
  json?: boolean
}

/** `qkd-gw tunnel trust`: accepts a host key whose fingerprint somebody compared. */
export function addTrustCommand(tunnel: Command, env: CliEnvironment): void {
  tunnel
    .command('trust')
    .description("accept an SSH server's host key: what it shows must have the fingerprint that you say")
    .argument('<host[:port]>', 'the server, port 22 where none is said')
    .option('--fingerprint <SHA256:…>', 'as ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub prints it on the server')
    .option('--known-hosts <file>', 'the file to write (default: ~/.ssh/known_hosts)')
    .option('-c, --config <file>', 'configuration whose tunnel section names the known_hosts file')
    .option('-i, --identity <file>', 'key for a jump host', (value, before: string[] = []) => [...before, value])
    .option('--jump <user@host[:port]>', 'go through this host')
    .option('--proxy <url>', 'go through http://host:port or socks5://host:port')
    .option('--json', 'for machines')
    .addHelpText(
      'after',
      '\nWithout --fingerprint it prints what the server shows and the command that accepts it, writes nothing, and ends with code 4.\n' +
        'Exit codes: 0 accepted (or accepted before), 4 nobody compared yet, 5 the server shows another key than you say.\n',
    )
    .action(async (host: string, flags: TrustFlags) => {
      const { knownHostsFiles, tunnelSectionOf } = await import('./tunnel-flags.js')
      const { fetchHostKey } = await import('../tunnel/fetch-host-key.js')
      const { hostArgument, shownKeyOf } = await import('../tunnel/host-key.js')
      const { loadIdentities } = await import('../tunnel/identities.js')
      const { trustHostKey } = await import('../tunnel/known-hosts-file.js')
      const { DEFAULT_TIMINGS } = await import('../tunnel/options.js')
      const { parseServerAddress } = await import('../tunnel/server-address.js')
      const { normalFingerprint } = await import('../tunnel/ssh-wire.js')
      const { openTransport } = await import('../tunnel/transport.js')
      const { terminalPrompt } = await import('../gateway/passphrase.js')

      const server = { ...parseHostPort(host.slice(host.lastIndexOf('@') + 1), 'the server', 22), user: 'nobody' }
      const wanted = flags.fingerprint === undefined ? undefined : normalFingerprint(flags.fingerprint)
      if (flags.fingerprint !== undefined && wanted === undefined) {
        throw new GatewayError('E_USAGE', `--fingerprint ${flags.fingerprint} is no SHA-256 fingerprint`, {
          remedy: 'write it as ssh-keygen -l prints it: SHA256: and 43 letters, digits, + or /',
        })
      }
      const { tunnel: section } = await tunnelSectionOf(flags.config, env)
      const named = flags.knownHosts === undefined ? {} : { knownHosts: [flags.knownHosts] }
      const files = knownHostsFiles(named, section, env)
      const identities = (): ReturnType<typeof loadIdentities> =>
        loadIdentities(
          {
            files: flags.identity ?? [],
            agent: env.env['SSH_AUTH_SOCK'],
            prompt: terminalPrompt(env),
            clock: env.clock,
          },
          env.signal,
        )
      const options = {
        ...{ server, proxy: flags.proxy, clock: env.clock, knownHostsFiles: files },
        jump: flags.jump === undefined ? undefined : parseServerAddress(flags.jump, '--jump'),
      }
      const { stream } = await openTransport(options, DEFAULT_TIMINGS, identities, env.signal)
      const timeoutMs = DEFAULT_TIMINGS.handshakeTimeoutMs
      const key = await fetchHostKey(stream, server, [], env.clock, timeoutMs, env.signal)
      const shown = shownKeyOf(key.blob)
      const say = (text: string, facts: Record<string, unknown>): void => {
        const found = { host: server.host, port: server.port, keyType: shown.type, fingerprint: shown.fingerprint }
        env.stdout.write(flags.json === true ? `${JSON.stringify({ ...found, ...facts }, null, 2)}\n` : text)
      }
      if (wanted === undefined) {
        const command = `qkd-gw tunnel trust ${hostArgument(server)} --fingerprint ${shown.fingerprint}`
        say(
          `${hostArgument(server)} shows the ${shown.type} key\n  ${shown.fingerprint}\n` +
            `Compare it on the server itself, not through this network:\n` +
            `  ssh-keygen -l -f /etc/ssh/ssh_host_${shown.type.replace(/^ssh-|-sha2.*$/g, '')}_key.pub\n` +
            `If they are equal:\n  ${command}\n`,
          { accepted: false, command },
        )
        return env.setExitCode(EXIT.hostKeyUnknown)
      }
      if (wanted !== shown.fingerprint) {
        throw new GatewayError(
          'E_HOST_KEY_CHANGED',
          `${hostArgument(server)} shows the ${shown.type} key ${shown.fingerprint}, not ${wanted}`,
          {
            remedy:
              'nothing was accepted: somebody may be in between, or the fingerprint is of another key of that server',
            details: { host: server.host, port: server.port, expected: wanted, seen: shown.fingerprint },
          },
        )
      }
      const file = files[0] ?? ''
      const { replaced, alreadyThere } = await trustHostKey(file, server, key, env.random)
      const what = alreadyThere
        ? 'was accepted before'
        : replaced.length > 0
          ? `is accepted now, in place of what stood in line ${replaced.join(', ')}`
          : 'is accepted now'
      say(`${hostArgument(server)}: the ${shown.type} key ${shown.fingerprint} ${what} (${file})\n`, {
        ...{ accepted: true, alreadyThere, replacedLines: replaced, file },
      })
    })
}
