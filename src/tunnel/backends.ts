/** Back ends by name. */
import { AutoBackend } from './auto-backend.js'
import type { Identities } from './identities.js'
import type { TunnelBackend } from './link.js'
import { createNestedBackend } from './nested-backend.js'
import { createOpensshBackend } from './openssh-backend.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { createSsh2Backend } from './ssh2-backend.js'

/** The back end that the options name; `identities` is asked at each attempt. */
export function createBackend(
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
): TunnelBackend {
  switch (options.backend) {
    case 'ssh2':
      return createSsh2Backend(options, timings, identities)
    case 'openssh':
      return createOpensshBackend(options, timings, identities)
    case 'openssh+ssh2':
      return createNestedBackend(options, timings, identities)
    case 'auto':
      return new AutoBackend({
        ssh2: createSsh2Backend(options, timings, identities),
        openssh: createOpensshBackend(options, timings, identities),
        nested: createNestedBackend(options, timings, identities),
        program: options.sshProgram ?? 'ssh',
        requirePostQuantum: options.requirePostQuantum ?? false,
        identities,
        clock: options.clock,
        log: options.log,
      })
  }
}
