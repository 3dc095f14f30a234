import type { DescFile } from '@bufbuild/protobuf'
import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import type { Statistics } from '../observe/statistics.js'
import type { DeviceDetails } from './details.js'
import type { DevicePort } from './device-port.js'
import { IDevice } from './gen/cqp/remote/device_pb.js'
import { IReporting } from './gen/cqp/remote/reporting_pb.js'
import { ISession } from './gen/cqp/remote/session_pb.js'
import { Probe as ProbeService } from './gen/qkdgw/probe/v1/probe_pb.js'
import type { Probe } from './probe.js'
import type { DeviceServer } from './server.js'
import { addDeviceService } from './services/device.js'
import { addHealthService, type Health } from './services/health.js'
import { addPairServices, PAIR_SERVICES, type PairPortSource } from './services/pair.js'
import { addReflectionService } from './services/reflection.js'
import { addReportingService } from './services/reporting.js'

export interface DeviceServicesOptions {
  readonly port: DevicePort
  /** What the device registers with, at this moment. */
  readonly details: () => DeviceDetails
  readonly statistics: Statistics
  readonly probe: Probe
  /** What a device of a pair answers to the other one; undefined while no session runs. Absent: it is no such device. */
  readonly pair?: PairPortSource
  readonly clock: Clock
  readonly log: Logger
  /** Services that other parts add, for health and reflection: full names, and the files that describe them. */
  readonly others?: { readonly names: readonly string[]; readonly files: readonly DescFile[] }
}

/** Registers what every device serves: IDevice, ISession, IReporting, probe, health and reflection. */
export function addDeviceServices(server: DeviceServer, options: DeviceServicesOptions): Health {
  const { port, details, statistics, probe, pair, clock, log, others = { names: [], files: [] } } = options
  const pairServices = pair === undefined ? [] : [...PAIR_SERVICES]
  const services = [IDevice, ISession, IReporting, ProbeService, ...pairServices]
  const names = services.map(({ typeName }) => typeName).concat(others.names)
  let health: Health | undefined
  server.addServices((grpc, handling) => {
    addDeviceService(grpc, { port, details, log }, handling)
    addReportingService(grpc, statistics, clock, handling)
    probe.addTo(grpc, handling)
    addPairServices(grpc, pair ?? (() => ({})), handling)
    addReflectionService(grpc, [...services.map(({ file }) => file), ...others.files], names)
    health = addHealthService(grpc, names)
  })
  if (health === undefined) throw new Error('the server did not register its services')
  return health
}
