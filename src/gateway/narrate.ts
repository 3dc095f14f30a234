/** What happens to each part of the chain, said as it happens: one log line a change, with the step it belongs to. */
import type { ReadonlyCell } from '../base/cell.js'
import { formatHostPort } from '../base/host-port.js'
import type { DeviceState } from '../device/contract.js'
import type { Logger } from '../observe/log.js'
import type { RegistrationState } from '../site/contract.js'
import type { TunnelState } from '../tunnel/contract.js'
import type { DirectProofState } from './direct-proof.js'

type Level = 'info' | 'warn' | 'debug'
interface Line {
  level: Level
  text: string
}

function ofDevice(state: DeviceState): Line {
  switch (state.state) {
    case 'absent':
      return { level: 'warn', text: `device absent: ${state.reason}` }
    case 'busy':
      return { level: 'warn', text: `device busy: ${state.reason}` }
    case 'refused':
      return { level: 'warn', text: `device refused: ${state.reason}` }
    case 'opening':
      return { level: 'debug', text: 'device: opening' }
    case 'open':
      return { level: 'info', text: `device open at ${state.path}; waiting for it to show what it is` }
    case 'identified':
      return { level: 'info', text: `device identified: ${state.identity}` }
    case 'producing':
      return { level: 'info', text: `device producing: ${state.identity} at ${state.path}` }
    case 'silent':
      return { level: 'warn', text: `device silent: ${state.reason}` }
    case 'stopped':
      return { level: 'info', text: 'device closed' }
  }
}

function ofTunnel(state: TunnelState): Line {
  switch (state.state) {
    case 'connecting':
      return { level: 'info', text: `tunnel connecting, try ${state.attempt}: ${state.reason}` }
    case 'authenticated':
      return { level: 'info', text: `tunnel authenticated at ${formatHostPort(state.server)} (${state.address})` }
    case 'listening':
      return {
        level: 'info',
        text: `tunnel listening on ${formatHostPort(state.listener)}, not proven: ${state.reason}`,
      }
    case 'proven': {
      const via = state.via === 'ssh' ? ', through the SSH connection itself' : ''
      const address = formatHostPort(state.controlAddress)
      return {
        level: 'info',
        text: `tunnel proven: ${address} leads back here in ${state.roundTripMs.toFixed(1)} ms${via}`,
      }
    }
    case 'degraded':
      return { level: 'warn', text: `tunnel degraded: ${state.reason}` }
    case 'down':
      return {
        level: 'warn',
        text: `tunnel down: ${state.reason}; next try in ${(state.retryInMs / 1_000).toFixed(1)} s`,
      }
    case 'needs-attention':
      return { level: 'warn', text: `tunnel needs attention: ${state.reason}; ${state.remedy}` }
    case 'stopped':
      return { level: 'info', text: 'tunnel closed' }
  }
}

function ofRegistration(state: RegistrationState): Line {
  switch (state.state) {
    case 'waiting':
      return { level: 'info', text: `registration waits for ${state.waitingFor}` }
    case 'registering':
      return { level: 'info', text: `registering, try ${state.attempt}` }
    case 'registered':
      return {
        level: 'info',
        text: `registered with control address ${state.controlAddress}${state.confirmed ? '' : ', not confirmed yet'}`,
      }
    case 'failed':
      return {
        level: 'warn',
        text: `registration failed: ${state.reason}; next try in ${(state.retryInMs / 1_000).toFixed(1)} s`,
      }
    case 'needs-attention':
      return { level: 'warn', text: `registration needs attention: ${state.reason}; ${state.remedy}` }
    case 'unregistered':
      return { level: 'info', text: 'unregistered' }
  }
}

function ofDirect(state: DirectProofState): Line {
  return state.state === 'proven'
    ? { level: 'info', text: `control address ${formatHostPort(state.controlAddress)} proven: it leads back here` }
    : { level: 'warn', text: `control address not proven: ${state.reason}` }
}

/**
 * The logger of a part whose states are narrated here: its own account of them would say everything twice, so it speaks
 * below errors only where somebody asked for detail.
 */
export function partLog(log: Logger, part: string): Logger {
  return log.child(
    { part },
    log.isLevelEnabled('debug') ? {} : { level: log.isLevelEnabled('error') ? 'error' : log.level },
  )
}

/** Says each change once: a proof that is merely renewed is no news. */
function follow<S extends { state: string }>(
  cell: ReadonlyCell<S>,
  describe: (state: S) => Line,
  log: Logger,
  part: string,
): void {
  let last = ''
  const tell = (state: S): void => {
    const { level, text } = describe(state)
    const key = state.state === 'proven' ? 'proven' : text
    if (key === last) return
    last = key
    log[level]({ part, state: state.state }, text)
  }
  cell.subscribe(tell)
}

export function narrateDevice(cell: ReadonlyCell<DeviceState>, log: Logger): void {
  follow(cell, ofDevice, log, 'device')
}

export function narrateTunnel(cell: ReadonlyCell<TunnelState>, log: Logger): void {
  follow(cell, ofTunnel, log, 'tunnel')
}

export function narrateRegistration(cell: ReadonlyCell<RegistrationState>, log: Logger): void {
  follow(cell, ofRegistration, log, 'registration')
}

export function narrateDirect(cell: ReadonlyCell<DirectProofState>, log: Logger): void {
  follow(cell, ofDirect, log, 'controlAddress')
}

/** The status part of any state cell whose states carry their reason and remedy by these names. */
export function reasonOf(state: { state: string; reason?: string; waitingFor?: string; remedy?: string }): {
  reason?: string
  needs?: string
} {
  const reason = state.reason ?? (state.waitingFor === undefined ? undefined : `waits for ${state.waitingFor}`)
  return {
    ...(reason === undefined ? {} : { reason }),
    ...(state.remedy === undefined ? {} : { needs: state.remedy }),
  }
}
