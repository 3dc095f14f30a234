/** What an sshd lets a client listen on and open, as `GatewayPorts`, `permitlisten` and `permitopen` say it. */

/** sshd's setting of the same name. */
export type GatewayPorts = 'no' | 'yes' | 'clientspecified'

/** Which addresses a requested bind address leads to; `any` are the addresses that stand for "all". */
export function addressesToBind(requested: string, gatewayPorts: GatewayPorts, any: readonly string[]): string[] {
  const loopback = ['127.0.0.1']
  if (gatewayPorts === 'no') return loopback
  if (gatewayPorts === 'yes') return [...any]
  if (requested === '' || requested === '*' || requested === '0.0.0.0' || requested === '::') return [...any]
  return requested === 'localhost' ? loopback : [requested]
}

/**
 * Whether `host:port` is on a list as sshd spells it: `host:port`, `*:port`, `host:*`, or a bare port. Without a list
 * everything is. Names are compared as they are: `localhost` is not `127.0.0.1`.
 */
export function isPermitted(list: readonly string[] | undefined, host: string, port: number): boolean {
  if (list === undefined) return true
  return list.some((entry) => {
    const cut = entry.lastIndexOf(':')
    const entryHost = cut === -1 ? '*' : entry.slice(0, cut).replace(/^\[|\]$/g, '')
    const entryPort = cut === -1 ? entry : entry.slice(cut + 1)
    return (entryHost === '*' || entryHost === host) && (entryPort === '*' || entryPort === String(port))
  })
}
