import { status as Status } from '@grpc/grpc-js'
import { messageOf } from '../base/errors.js'
import { formatHostPort, parseHostPort } from '../base/host-port.js'
import { rpcError, type RpcError } from './bridge.js'
import type { SessionParameters } from './device-port.js'
import type { SessionDetails } from './gen/cqp/remote/session_pb.js'

/** Longest address, parameter name and parameter value, characters; most parameters; longest initial key, bytes. */
export const MAX_ADDRESS_CHARS = 512
export const MAX_PARAMETER_CHARS = 4_096
export const MAX_PARAMETERS = 256
export const MAX_INITIAL_KEY_BYTES = 65_536

/** An INVALID_ARGUMENT that names the field and the reason. */
export function invalid(field: string, reason: string): RpcError {
  return rpcError(Status.INVALID_ARGUMENT, `${field}: ${reason}`)
}

/** The address of a device as a caller wrote it, in the spellings that C++ devices take. Returned word for word. */
export function checkAddress(field: string, text: string): string {
  if (text === '') throw invalid(field, 'is empty; expected host:port of the device at the other site')
  if (text.length > MAX_ADDRESS_CHARS) throw invalid(field, `${text.length} characters, at most ${MAX_ADDRESS_CHARS}`)
  let address
  try {
    address = parseHostPort(text, field)
  } catch (error) {
    throw rpcError(Status.INVALID_ARGUMENT, messageOf(error))
  }
  if (address.port === 0) throw invalid(field, `${formatHostPort(address)} has port 0, which nobody can call`)
  return text
}

/** Absent details are a message of defaults, as everywhere in proto3. */
export function checkDetails(field: string, details: SessionDetails | undefined): SessionParameters {
  const {
    lineAttenuation = 0,
    photonsPerBurst = 0n,
    repitionRate = 0,
    initialKeyId = 0n,
    parameters = [],
  } = details ?? {}
  if (!Number.isFinite(lineAttenuation))
    throw invalid(`${field}.lineAttenuation`, `${lineAttenuation} is no number of dB`)
  if (parameters.length > MAX_PARAMETERS) {
    throw invalid(`${field}.parameters`, `${parameters.length} entries, at most ${MAX_PARAMETERS}`)
  }
  const named = new Map<string, string>()
  for (const { name, value } of parameters) {
    const longest = Math.max(name.length, value.length)
    if (longest > MAX_PARAMETER_CHARS) {
      throw invalid(`${field}.parameters`, `an entry of ${longest} characters, at most ${MAX_PARAMETER_CHARS}`)
    }
    named.set(name, value)
  }
  return {
    lineAttenuationDb: lineAttenuation,
    photonsPerBurst,
    repetitionRateHz: repitionRate,
    initialKeyId,
    parameters: named,
  }
}

/** A copy that the receiver owns; the received bytes are wiped, whatever comes of it. */
export function takeInitialKey(field: string, received: Uint8Array): Uint8Array {
  if (received.length > MAX_INITIAL_KEY_BYTES) {
    received.fill(0)
    throw invalid(field, `${received.length} bytes, at most ${MAX_INITIAL_KEY_BYTES}`)
  }
  const copy = Uint8Array.from(received)
  received.fill(0)
  return copy
}
