import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import type { HostPort } from '../base/host-port.js'
import { GatewayError } from '../base/errors.js'

/** CQPToolkit's customary port of a device. */
export const defaultDevicePort = 9_000

function isPrivate(address: string): boolean {
  const [a = -1, b = -1] = address.split('.').map(Number)
  return a === 10 || (a === 172 && b >= 16 && b <= 31) || (a === 192 && b === 168)
}

/**
 * Where to serve when nobody said so: this machine's only private IPv4 address, port 9000; 127.0.0.1 where there is
 * none (`reason` says so). Throws E_CONFIG with the list where there are several.
 */
export function chooseListenAddress(
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces(),
): HostPort & { reason: string } {
  const found: { name: string; address: string }[] = []
  for (const [name, addresses] of Object.entries(interfaces)) {
    for (const info of addresses ?? []) {
      if (info.family === 'IPv4' && !info.internal && isPrivate(info.address))
        found.push({ name, address: info.address })
    }
  }
  const [only, ...others] = found
  if (only === undefined) {
    return {
      host: '127.0.0.1',
      port: defaultDevicePort,
      reason: 'this machine has no private address, so only this machine can reach the service',
    }
  }
  if (others.length > 0) {
    const list = found.map(({ name, address }) => `${address} (${name})`).join(', ')
    throw new GatewayError('E_CONFIG', `this machine has several private addresses: ${list}`, {
      remedy: `choose one, for example --listen ${only.address}:${defaultDevicePort}`,
    })
  }
  return { host: only.address, port: defaultDevicePort, reason: `the only private address (${only.name})` }
}
