import type { Command } from 'commander'
import { addAttachCommand } from './attach.js'
import { addConfigCommand } from './config.js'
import { addDecodeCommand } from './decode.js'
import { addDemoCommand } from './demo.js'
import { addDevicesCommand } from './devices.js'
import { addEmulateCommand } from './emulate.js'
import type { CliEnvironment } from './environment.js'
import { addKeysCommand } from './keys.js'
import { addLinkCommand } from './link.js'
import { addRunCommand } from './run.js'
import { addSiteCommand } from './site.js'
import { addStandinCommand } from './standin.js'
import { addStatusCommand } from './status.js'
import { addTraceCommand } from './trace.js'
import { addTunnelCommand } from './tunnel.js'

/** Every command, in the order in which --help lists them. Each file keeps what is heavy inside its action. */
export const commands: readonly ((program: Command, env: CliEnvironment) => void)[] = [
  addAttachCommand,
  addRunCommand,
  addStatusCommand,
  addDevicesCommand,
  addTraceCommand,
  addDecodeCommand,
  addTunnelCommand,
  addSiteCommand,
  addLinkCommand,
  addKeysCommand,
  addConfigCommand,
  addDemoCommand,
  addEmulateCommand,
  addStandinCommand,
]
