import { GatewayError } from '../base/errors.js'

/**
 * Reads a key's address as SiteAgents give it, `pkcs11:type=secret-key;object=127.0.0.1%3A17002;id=0x04`, percent-encoded
 * once or twice. Throws E_USAGE.
 */
export function parseKeyUrl(text: string): { site: string; id: bigint } {
  const plain = decode(decode(text.replace(/^pkcs11:/, '')))
  const parts = new Map(
    plain.split(/[;?&]/).map((part): [string, string] => {
      const at = part.indexOf('=')
      return at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)]
    }),
  )
  const site = parts.get('object')
  const id = parts.get('id')
  if (site === undefined || id === undefined || !/^(0x[0-9a-f]+|\d+)$/i.test(id)) {
    throw new GatewayError('E_USAGE', `"${text}" is no address of a key`, {
      remedy: 'it looks like pkcs11:object=127.0.0.1:17002;id=0x04',
    })
  }
  return { site, id: BigInt(id) }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
