import type { DescFile } from '@bufbuild/protobuf'
import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import type { Statistics } from '../observe/statistics.js'
import type { DeviceDetails } from './details.js'
import type { DevicePort } from './device-port.js'
import { file_cqp_remote_device, IDevice } from './gen/cqp/remote/device_pb.js'
import { file_cqp_remote_reporting, IReporting } from './gen/cqp/remote/reporting_pb.js'
import { file_cqp_remote_session, ISession } from './gen/cqp/remote/session_pb.js'
import { file_qkdgw_probe_v1_probe, Probe as ProbeService } from './gen/qkdgw/probe/v1/probe_pb.js'
import type { Probe } from './probe.js'
import type { DeviceServer } from './server.js'
import { addDeviceService } from './services/device.js'
import { addHealthService, type Health } from './services/health.js'
import { addReflectionService } from './services/reflection.js'
import { addReportingService } from './services/reporting.js'

export interface DeviceServicesOptions {
  readonly port: DevicePort
  /** What the device registers with, at this moment. */
  readonly details: () => DeviceDetails
  readonly statistics: Statistics
  readonly probe: Probe
  readonly clock: Clock
  readonly log: Logger
  /** Services that other parts add, for health and reflection: full names, and the files that describe them. */
  readonly others?: { readonly names: readonly string[]; readonly files: readonly DescFile[] }
}

/** Registers what every device serves: IDevice, ISession, IReporting, probe, health and reflection. */
export function addDeviceServices(server: DeviceServer, options: DeviceServicesOptions): Health {
  const { port, details, statistics, probe, clock, log, others = { names: [], files: [] } } = options
  const names = [IDevice, ISession, IReporting, ProbeService].map(({ typeName }) => typeName).concat(others.names)
  let health: Health | undefined
  server.addServices((grpc, handling) => {
    addDeviceService(grpc, { port, details, log }, handling)
    addReportingService(grpc, statistics, clock, handling)
    probe.addTo(grpc, handling)
    addReflectionService(
      grpc,
      [
        file_cqp_remote_device,
        file_cqp_remote_session,
        file_cqp_remote_reporting,
        file_qkdgw_probe_v1_probe,
        ...others.files,
      ],
      names,
    )
    health = addHealthService(grpc, names)
  })
  if (health === undefined) throw new Error('the server did not register its services')
  return health
}
