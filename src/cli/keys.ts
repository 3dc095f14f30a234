import { resolve } from 'node:path'
import type { Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CaResult, CaSite } from '../rpc/private-ca.js'
import type { CliEnvironment } from './environment.js'

/** `A=45.55.2.5,site-a.example` as the user writes it. */
function parseSite(text: string, before: readonly CaSite[] = []): CaSite[] {
  const match = /^([^=]+)=(.+)$/.exec(text)
  if (match === null) {
    throw new GatewayError('E_USAGE', `--site "${text}" is no name=host`, {
      remedy: 'write for example --site A=45.55.2.5 --site B=example.org,10.0.0.7',
    })
  }
  const [, name = '', hosts = ''] = match
  return [...before, { name: name.trim(), hosts: hosts.split(',').map((host) => host.trim()) }]
}

/** What goes where, for a person. */
export function explainCa(result: CaResult): string {
  const lines = [
    `The authority: ${result.authority.certificate} goes to every machine below;`,
    `  ${result.authority.privateKey} signs for all of them: keep it off every machine, on paper or an unplugged disk.`,
  ]
  for (const { name, siteAgent, gateway } of result.sites) {
    lines.push(
      '',
      `Site ${name}, the host of its SiteAgent (a C++ one; the Java SiteAgent has no TLS):`,
      `  copy ${siteAgent.certificate}, ${siteAgent.privateKey} and ca.crt, and put into its JSON file`,
      '  "credentials": {"useTLS": true, "rootCertsFile": ".../ca.crt",',
      `    "certChainFile": ".../${siteAgent.subject}.crt", "privateKeyFile": ".../${siteAgent.subject}.key"}`,
      '  and start it with -s. It then reaches only devices and sites that speak TLS.',
      `Site ${name}, the lab machine with the device:`,
      `  copy ${gateway.certificate}, ${gateway.privateKey} and ca.crt, and put into the gateway's configuration`,
      '  [server]',
      `  siteCertificates = ["${siteAgent.subject}"]`,
      `  peerCertificates = [${result.sites
        .filter((other) => other.name !== name)
        .map((other) => `"${other.gateway.subject}"`)
        .join(', ')}]`,
      '  [server.tls]',
      `  certificate = ".../${gateway.subject}.crt"`,
      `  key = ".../${gateway.subject}.key"`,
      '  rootCertificates = ".../ca.crt"',
      '  [site]',
      '  tls = true',
    )
  }
  lines.push('', 'The files are read again when they change: `qkd-gw keys init --renew` and copying are enough.')
  return `${lines.join('\n')}\n`
}

/** `qkd-gw keys init`: a private authority and the certificates of both sites. */
export function addKeysCommand(program: Command, env: CliEnvironment): void {
  const keys = program.command('keys').description('certificates for TLS between gateway, SiteAgent and the other site')
  keys
    .command('init')
    .description(
      "make a private authority and both sites' certificates with the system's openssl, and say what goes where",
    )
    .requiredOption<CaSite[]>(
      '--site <name=hosts>',
      'a site and every host or address, comma-separated, under which it is called; once for each site',
      parseSite,
    )
    .option('--folder <folder>', 'where to put the files', 'qkd-keys')
    .option('--renew', 'new certificates with the authority that the folder holds')
    .option('--json', 'for machines: the files made')
    .addHelpText(
      'after',
      `
Example: qkd-gw keys init --site A=45.55.2.5 --site B=45.55.9.1,site-b.example
All files are readable by you alone. Exit codes: 0 done, 2 a wrong name, 3 openssl or the folder failed.
`,
    )
    .action(async (options: { site: CaSite[]; folder: string; renew?: boolean; json?: boolean }) => {
      const { makePrivateCa } = await import('../rpc/private-ca.js')
      const result = await makePrivateCa({
        folder: resolve(env.cwd, options.folder),
        sites: options.site,
        renew: options.renew === true,
        signal: env.signal,
      })
      env.stdout.write(options.json === true ? `${JSON.stringify(result, null, 2)}\n` : explainCa(result))
    })
}
