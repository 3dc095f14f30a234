import type { Server } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'

/** The standard health service. */
export interface Health {
  /** Answers for one service, or for the whole server where `service` is ''. */
  set(service: string, serving: boolean): void
}

/** All services begin as serving. */
export function addHealthService(server: Server, services: readonly string[]): Health {
  const health = new HealthImplementation(Object.fromEntries(['', ...services].map((name) => [name, 'SERVING'])))
  health.addToServer(server)
  return { set: (service, serving) => health.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING') }
}
