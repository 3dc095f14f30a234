/** The very file that CQPToolkit's own device programs take with -c, read unchanged. */
import { z } from 'zod'
import type { Config } from './schema.js'

const sideNames = z.union([
  z.enum(['Alice', 'Bob', 'Any']),
  // protobuf's JSON form also allows the number.
  z.literal(0).transform(() => 'Alice' as const),
  z.literal(1).transform(() => 'Bob' as const),
  z.literal(2).transform(() => 'Any' as const),
])

const cqpFileSchema = z.looseObject({
  controlParams: z.strictObject({
    config: z
      .strictObject({
        id: z.string().optional(),
        side: sideNames.optional(),
        switchName: z.string().optional(),
        switchPort: z.array(z.string()).optional(),
        kind: z.string().optional(),
        bytesPerKey: z.number().int().min(0).optional(),
      })
      .optional(),
    bindAddress: z.string().optional(),
    controlAddress: z.string().optional(),
    siteAgentAddress: z.string().optional(),
  }),
  // Where the other device is comes from the SiteAgents: the two fields are read and not needed.
  bobAddress: z.string().optional(),
  bobaddress: z.string().optional(),
  deviceName: z.string().optional(),
})

/** True for a document that has the device programs' form. */
export function isCqpFile(document: unknown): boolean {
  return typeof document === 'object' && document !== null && 'controlParams' in document
}

/** A value unless it is absent or empty: protobuf's JSON writes empty strings for unset fields. */
function given(value: string | undefined): string | undefined {
  return value === undefined || value === '' ? undefined : value
}

/** Leaves out keys whose value is undefined. */
function present<T extends object>(fields: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}

export type CqpFileResult = { config: Config } | { error: z.ZodError }

/**
 * Translates the file: `bindAddress` is where to serve, the port of `controlAddress` the tunnel's listener (and the
 * address itself what is registered), `siteAgentAddress` the SiteAgent.
 */
export function fromCqpFile(document: unknown): CqpFileResult {
  const parsed = cqpFileSchema.safeParse(document)
  if (!parsed.success) return { error: parsed.error }
  const { controlParams, deviceName } = parsed.data
  const { config = {} } = controlParams
  const controlAddress = given(controlParams.controlAddress)
  const controlPort = controlAddress === undefined ? undefined : /:(\d+)$/.exec(controlAddress)?.[1]
  const bytesPerKey = config.bytesPerKey === 0 ? undefined : config.bytesPerKey
  const side = config.side === 'Any' ? undefined : config.side === 'Bob' ? 'bob' : 'alice'
  return {
    config: {
      device: present<NonNullable<Config['device']>>({
        path: given(deviceName),
        id: given(config.id),
        side,
        kind: given(config.kind),
        bytesPerKey,
        switchName: given(config.switchName),
        switchPorts: config.switchPort,
      }),
      server: present<NonNullable<Config['server']>>({ listen: given(controlParams.bindAddress) }),
      tunnel: present<NonNullable<Config['tunnel']>>({ remoteListen: controlPort, controlAddress }),
      site: present<NonNullable<Config['site']>>({ agent: given(controlParams.siteAgentAddress) }),
    },
  }
}
