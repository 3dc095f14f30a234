import type { Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CliEnvironment } from './environment.js'

/** `qkd-gw run`: several gateways under one supervisor. */
export function addRunCommand(program: Command, env: CliEnvironment): void {
  program
    .command('run')
    .description('serve several devices of one PC, each by a gateway process of its own, under one supervisor')
    .requiredOption(
      '-c, --config <file>',
      'configuration of one gateway; once for each',
      (file: string, before: string[] | undefined) => [...(before ?? []), file],
    )
    .addHelpText(
      'after',
      `
Each file needs its own [state] folder, [server] listen and, at one SSH server, [tunnel] remoteListen. A gateway that dies
is started again with growing pauses; one whose configuration cannot work is not, and the others go on.

Example:
  qkd-gw run -c link-to-b.toml -c link-to-c.toml

The exit code is the largest of the gateways' own.`,
    )
    .action(async (options: { config: string[] }) => {
      const { loadConfig } = await import('../gateway/config/load.js')
      const { runSeveral } = await import('../gateway/run-several.js')
      const { createLogger } = await import('../observe/log.js')
      const configs = options.config.map((file) => loadConfig(file, env.cwd, env.env).config)
      const folders = configs.map((config) => config.state?.folder ?? '')
      if (new Set(folders).size < folders.length) {
        throw new GatewayError('E_CONFIG', 'two of the gateways have the same state folder', {
          remedy: 'give each file a [state] folder of its own',
        })
      }
      const log = createLogger({ level: 'info', format: configs[0]?.log?.format ?? 'pretty', destination: env.stderr })
      const main = process.argv[1] ?? ''
      const codes = await runSeveral(options.config, [process.execPath, ...process.execArgv, main], env, log)
      env.setExitCode(Math.max(...codes.values()))
    })
}
