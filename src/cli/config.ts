import type { Command } from 'commander'
import type { CliEnvironment } from './environment.js'

/** `qkd-gw config …`: the schema of the configuration file, and a check of one. */
export function addConfigCommand(program: Command, env: CliEnvironment): void {
  const config = program.command('config').description('the configuration file: its schema, and a check of one')
  config
    .command('schema')
    .description('print the JSON Schema of the configuration file')
    .action(async () => {
      const { configJsonSchema } = await import('../gateway/config/schema.js')
      env.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)
    })
  config
    .command('check')
    .argument('[file]', 'the file; without it the one that attach would find')
    .description('check a configuration file and say which one it is')
    .action(async (file: string | undefined) => {
      const { loadConfig, searchedFiles } = await import('../gateway/config/load.js')
      const loaded = loadConfig(file, env.cwd, env.env)
      env.stdout.write(
        loaded.file === undefined
          ? `No configuration file. Looked for:\n${searchedFiles(env.cwd, env.env).join('\n')}\n`
          : `${loaded.file}: good (${loaded.form === 'cqp' ? "a CQPToolkit device program's file" : 'our own form'})\n`,
      )
    })
}
