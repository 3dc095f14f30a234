import type { Command } from 'commander'
import { declareAttachFlags, flagsToConfig, type AttachFlags } from './attach-flags.js'
import type { CliEnvironment } from './environment.js'

const help = `
What happens, each part by itself and for ever, with growing pauses and the reason shown:
  1. the device is opened, by its stable name where it has one, and read
  2. the device service (cqp.remote.IDevice, ISession, IReporting) is served on --listen
  3. the reverse tunnel is brought up, and proven: a call to the control address came back to this process
  4. only then the device is registered with the SiteAgent, with the tunnel's listener as its control address

About --remote-listen: the SiteAgent and the other site's device call the listener on the SSH server, so it must listen on
an address that they can reach. The default asks for all addresses. sshd grants that only with "GatewayPorts
clientspecified" (or yes); with "GatewayPorts no", its default, it says yes and listens on 127.0.0.1 alone, which serves a
SiteAgent on that very host but not the other site. qkd-gw finds out which it is by calling itself, and says so.
"qkd-gw tunnel server-config" prints what the server should hold.

Examples:
  qkd-gw attach /dev/ttyUSB0 --driver qix --side alice --id A_B_A \\
         --site-agent 45.55.2.5:8000 --tunnel user@45.55.2.5 -i key.pem
  qkd-gw attach -c dummy-a.json --driver qix --tunnel ubuntu@3.84.128.28 -i key.pem /dev/ttyUSB0
  qkd-gw attach -c site-a.toml

What ends it by itself, and with which exit code: 2 usage, 3 configuration, 4 unknown host key, 5 changed host key,
6 unusable key file, 7 the path is no device, 8 already running, 9 an unsafe choice not asked for by name, 10 stopped while
one site lacked keys that the other took in. Anything that time or a cable can mend does not end it.`

/** `qkd-gw attach <device>`: from the cable to the SiteAgent. */
export function addAttachCommand(program: Command, env: CliEnvironment): void {
  const command = program
    .command('attach')
    .description('serve one device: cable, device service, tunnel, registration')
    .argument('[device]', 'device node, stable name, or a scheme such as dummy: or replay:FILE')
  declareAttachFlags(command)
    .addHelpText('after', help)
    .action(async (device: string | undefined, flags: AttachFlags) => {
      const { loadConfig, mergeConfig } = await import('../gateway/config/load.js')
      const loaded = loadConfig(flags.config, env.cwd, env.env)
      const config = mergeConfig(loaded.config, flagsToConfig(device, flags))
      const { attach } = await import('../gateway/attach.js')
      const code = await attach(config, { ...env, configFile: loaded.file })
      env.setExitCode(code)
    })
}
