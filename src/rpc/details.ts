import { create } from '@bufbuild/protobuf'
import { Side_Type } from './gen/cqp/remote/common_pb.js'
import { ControlDetailsSchema, type ControlDetails } from './gen/cqp/remote/device_pb.js'

/** What a device says of itself. */
export interface DeviceDetails {
  readonly id: string
  readonly side: 'alice' | 'bob' | 'any'
  readonly kind: string
  readonly bytesPerKey: number
  readonly switchName: string
  readonly switchPorts: readonly string[]
  /** host:port at which others reach the device. */
  readonly controlAddress: string
  /** host:port of the SiteAgent, empty where there is none. */
  readonly siteAgentAddress: string
}

const SIDES: Readonly<Record<DeviceDetails['side'], Side_Type>> = {
  alice: Side_Type.Alice,
  bob: Side_Type.Bob,
  any: Side_Type.Any,
}

/** The details as bytes that both numberings of the message read rightly: fields 2 and 3 are the control address. */
export function controlDetails(details: DeviceDetails): ControlDetails {
  return create(ControlDetailsSchema, {
    config: {
      id: details.id,
      side: SIDES[details.side],
      kind: details.kind,
      bytesPerKey: details.bytesPerKey,
      switchName: details.switchName,
      switchPort: [...details.switchPorts],
    },
    bindAddress: details.controlAddress,
    controlAddress: details.controlAddress,
    siteAgentAddress: details.siteAgentAddress,
  })
}
