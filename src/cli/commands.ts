import type { Command } from 'commander'
import { addConfigCommand } from './config.js'
import type { CliEnvironment } from './environment.js'
import { addStatusCommand } from './status.js'

/** Every command, in the order in which --help lists them. Each file keeps what is heavy inside its action. */
export const commands: readonly ((program: Command, env: CliEnvironment) => void)[] = [
  addStatusCommand,
  addConfigCommand,
]
