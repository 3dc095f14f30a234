/** The gateway's own configuration: one schema gives checking, types and `qkd-gw config schema`. */
import { z } from 'zod'

const hostPort = z
  .string()
  .regex(/^(\[[0-9A-Fa-f:.%]+\]|[^:[\]\s]+):\d{1,5}$/, 'must be host:port, for example 45.55.2.5:9000')
const port = z.number().int().min(0).max(65_535)
const ms = z.number().int().min(1)
const text = z.string().min(1)

export const deviceSection = z.strictObject({
  path: text.optional().describe('Device node, stable name below /dev/serial/by-id, or scheme such as "dummy:"'),
  driver: text.optional().describe('Driver name; without it the device is recognised by its USB strings'),
  side: z.enum(['alice', 'bob']).optional().describe('End of the fibre'),
  id: text.optional().describe('Device id at the SiteAgent; Java sites need the form A_B_A'),
  kind: text
    .optional()
    .describe("The SiteAgent's kind; both ends of a link must have the same (default: the driver's)"),
  bytesPerKey: z.number().int().min(1).max(255).optional().describe("Bytes of one key (default: the driver's)"),
  baud: z.number().int().min(50).max(12_000_000).optional().describe("Line rate (default: the driver's)"),
  switchName: z.string().optional(),
  switchPorts: z.array(z.string()).optional(),
  options: z.record(z.string(), z.string()).optional().describe("The driver's own options"),
})

export const tlsSection = z.strictObject({
  certificate: text.describe('PEM file of the certificate chain'),
  key: text.describe('PEM file of the private key (0600)'),
  rootCertificates: text.optional().describe('PEM file of the authorities that peers are checked against'),
  requireClientCertificate: z.boolean().optional().describe('Refuse callers that show no certificate'),
})

export const serverSection = z.strictObject({
  listen: hostPort
    .optional()
    .describe('Where the device service listens (default: the only private address, port 9000)'),
  tls: tlsSection.optional(),
  allow: z
    .array(text)
    .optional()
    .describe("Addresses, CIDR ranges, cert:NAME or hidden that may ask for keys, besides the tunnel's own host"),
  allowPeers: z.array(text).optional().describe('The same for the other device: who may start and end sessions'),
  allowLook: z.array(text).optional().describe('The same for status, details, statistics and reflection'),
  trustLoopback: z
    .boolean()
    .optional()
    .describe('Say false where something else forwards strangers to the local port (an ssh -R started by hand)'),
  siteCertificates: z.array(text).optional().describe("Names on the SiteAgent's client certificate"),
  peerCertificates: z.array(text).optional().describe("Names on the other device's client certificate"),
})

export const tunnelSection = z.strictObject({
  server: text.optional().describe('user@host or user@host:port of the SSH server'),
  backend: z.enum(['auto', 'ssh2', 'openssh', 'openssh+ssh2']).optional(),
  identity: z.array(text).optional().describe('Private key files, tried in order'),
  agent: z.boolean().optional().describe('Offer the keys of the SSH agent (default: yes, if there is one)'),
  knownHosts: z.array(text).optional().describe('known_hosts files; the first is written by `tunnel trust`'),
  fingerprints: z.array(text).optional().describe('Pinned host key fingerprints, SHA256:…'),
  remoteListen: text.optional().describe('Listener on the server, [host:]port (default: all addresses, port 9000)'),
  portPool: z.array(port).optional().describe('Further ports that the server permits, tried while the first is held'),
  anyPort: z.boolean().optional().describe('As a last way out let the server choose a port, and register anew'),
  controlAddress: hostPort.optional().describe('What to register instead of the listener as seen from here'),
  ownSshd: hostPort
    .optional()
    .describe('Where the server reaches its own sshd, for openssh+ssh2 (default: localhost and the port dialled)'),
  requirePostQuantum: z.boolean().optional().describe('Refuse a tunnel without a post-quantum key exchange'),
  spareConnection: z
    .boolean()
    .optional()
    .describe('Keep a second connection ready for when the first is reset (default: no)'),
  jumpHost: text.optional().describe('user@host:port to go through'),
  proxy: text.optional().describe('http://host:port or socks5://host:port to go through'),
  probeIntervalMs: ms.optional(),
  fastRetriesMs: z
    .array(z.number().int().min(0).max(3_600_000))
    .max(20)
    .optional()
    .describe('Pauses before the first tries after a loss, ms (default: 0, 100, 400)'),
  retryFirstMs: ms.optional().describe('The pause after those, ms, doubled each time (default: 1000)'),
  retryMaxMs: ms.optional().describe('The longest pause, ms (default: 20000)'),
})

export const siteSection = z.strictObject({
  agent: hostPort.optional().describe('The SiteAgent, host:port'),
  viaTunnel: z
    .boolean()
    .optional()
    .describe('Call the SiteAgent through the tunnel, so that nothing crosses in plain text'),
  tls: z.union([z.boolean(), tlsSection.partial()]).optional(),
  pollMs: ms.optional().describe('How often to ask whether the registration still stands'),
})

const keepUpPath = ['leftSite', 'leftId', 'rightSite', 'rightId'] as const

export const keepUpSection = z
  .strictObject({
    leftSite: hostPort.optional().describe("Address of site A's SiteAgent, as reached from here"),
    leftId: text.optional(),
    rightSite: hostPort.optional(),
    rightId: text.optional(),
    static: z
      .boolean()
      .optional()
      .describe(
        'A static link of C++ sites: it is started again by registering anew; without sites and ids, say it at both gateways',
      ),
  })
  .superRefine((section, context) => {
    const missing = keepUpPath.filter((name) => section[name] === undefined)
    if (missing.length === 0 || (section.static === true && missing.length === keepUpPath.length)) return
    context.addIssue({
      code: 'custom',
      path: [],
      message: `${missing.join(', ')} missing: both sites and both ids are needed, but for a static link without all four`,
    })
  })

export const linkSection = z.strictObject({
  smallestBatchKeys: z.number().int().min(2).max(10_000).optional(),
  longestWaitMs: ms.optional().describe('A smaller batch is sent after this long'),
  maxHeldKeys: z.number().int().min(2).max(10_000_000).optional(),
  maxHeldAgeMs: ms.optional(),
  keepUp: keepUpSection.optional(),
})

export const metricsSection = z.strictObject({
  listen: z
    .union([z.literal('off'), hostPort])
    .optional()
    .describe('Where GET /metrics is answered for Prometheus, or "off" (default: 127.0.0.1:9464)'),
})

/** Unsafe choices, each asked for by name. */
export const unsafeChoices = ['plain-text-keys', 'not-secret-keys', 'unknown-host-key'] as const

export const configSchema = z
  .strictObject({
    device: deviceSection.optional(),
    server: serverSection.optional(),
    tunnel: tunnelSection.optional(),
    site: siteSection.optional(),
    link: linkSection.optional(),
    metrics: metricsSection.optional(),
    state: z.strictObject({ folder: text.optional() }).optional(),
    log: z
      .strictObject({
        level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).optional(),
        format: z.enum(['pretty', 'json']).optional(),
      })
      .optional(),
    allowUnsafe: z.array(z.enum(unsafeChoices)).optional().describe('Unsafe choices, each asked for by name'),
  })
  .describe('Configuration of qkd-gw')

export type Config = z.infer<typeof configSchema>
export type UnsafeChoice = (typeof unsafeChoices)[number]

/** JSON Schema of the configuration file. */
export function configJsonSchema(): unknown {
  return z.toJSONSchema(configSchema, { io: 'input' })
}
