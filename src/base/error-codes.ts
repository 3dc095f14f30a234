/** Exit codes of the command, one meaning each. 0 is success, 1 an error that no code below names. */
export const EXIT = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  configuration: 3,
  hostKeyUnknown: 4,
  hostKeyChanged: 5,
  keyFileUnusable: 6,
  notADevice: 7,
  secondInstance: 8,
  unsafeNotAllowed: 9,
  keysOwedAtStop: 10,
  checkFailed: 11,
  notRunning: 12,
  keysDiffer: 13,
} as const

interface CodeEntry {
  meaning: string
  /** Set where the failure ends the process: nothing that time or a cable can mend has one. */
  exitCode?: number
}

const entries = {
  E_INTERNAL: { meaning: 'a fault of the gateway itself', exitCode: EXIT.unexpected },
  E_USAGE: { meaning: 'a wrong flag or argument', exitCode: EXIT.usage },
  E_CONFIG: { meaning: 'a configuration that cannot work', exitCode: EXIT.configuration },
  E_UNSAFE: { meaning: 'an unsafe choice that was not asked for by name', exitCode: EXIT.unsafeNotAllowed },
  E_SECOND_INSTANCE: {
    meaning: 'another gateway holds this device, id or state folder',
    exitCode: EXIT.secondInstance,
  },
  E_NOT_RUNNING: { meaning: 'no gateway runs with this state folder', exitCode: EXIT.notRunning },
  E_CHECK_FAILED: { meaning: 'a check found something to mend', exitCode: EXIT.checkFailed },
  E_DEADLINE: { meaning: 'something did not happen within its deadline' },
  E_CANCELLED: { meaning: 'stopped before it was done' },
  E_DEVICE_ABSENT: { meaning: 'the device node is not there' },
  E_DEVICE_BUSY: { meaning: 'another program holds the port' },
  E_DEVICE_PERMISSION: { meaning: 'the port may not be opened by this user' },
  E_DEVICE_NOT_A_DEVICE: { meaning: 'the path is no device', exitCode: EXIT.notADevice },
  E_DEVICE_IO: { meaning: 'reading or writing the port failed' },
  E_DEVICE_PROTOCOL: { meaning: 'the device says what its protocol does not allow' },
  E_DEVICE_TIE: { meaning: 'several devices or drivers fit equally well', exitCode: EXIT.usage },
  E_RANDOM_SOURCE: { meaning: 'a source of random numbers failed its health tests, or gives none' },
  E_DRIVER_UNKNOWN: { meaning: 'no driver of that name', exitCode: EXIT.usage },
  E_FORMAT: { meaning: 'a file whose format cannot be told or does not hold', exitCode: EXIT.usage },
  E_HOST_KEY_UNKNOWN: { meaning: 'the SSH server shows a key that nobody has accepted', exitCode: EXIT.hostKeyUnknown },
  E_HOST_KEY_CHANGED: {
    meaning: 'the SSH server shows another key than the accepted one',
    exitCode: EXIT.hostKeyChanged,
  },
  E_HOST_KEY_REVOKED: { meaning: 'the SSH server shows a revoked key', exitCode: EXIT.hostKeyChanged },
  E_KEY_FILE: { meaning: 'a private key file that cannot be used', exitCode: EXIT.keyFileUnusable },
  E_AUTH_FAILED: { meaning: 'the SSH server refused every key offered' },
  E_BANNED: { meaning: 'the SSH server closes connections from this address before its banner' },
  E_CONNECT: { meaning: 'a host or port could not be reached' },
  E_FORWARD_REFUSED: { meaning: 'the SSH server refused to listen' },
  E_FORWARD_LOOPBACK_ONLY: { meaning: 'the listener is bound to loopback only (GatewayPorts)' },
  E_PROBE_FAILED: { meaning: 'a call to the control address did not come back to this process' },
  E_NO_POST_QUANTUM: { meaning: 'no post-quantum key exchange where one is required', exitCode: EXIT.configuration },
  E_ADDRESS_IN_USE: { meaning: 'the address to listen on is taken', exitCode: EXIT.configuration },
  E_SITE_UNREACHABLE: { meaning: 'the SiteAgent did not answer' },
  E_SITE_REFUSED: { meaning: 'the SiteAgent answered with an error' },
  E_SITE_ID: { meaning: 'a device id that this SiteAgent cannot use', exitCode: EXIT.configuration },
  E_PEER_UNREACHABLE: { meaning: 'the device at the other site did not answer' },
  E_PEER_MISMATCH: { meaning: 'the two devices of a link do not fit (version, kind or key length)' },
  E_LINK_MISMATCH: { meaning: 'the two devices do not hold the same keys' },
  E_LINK_DIVERGED: { meaning: 'the stores of the two sites have parted' },
  E_KEYS_OWED: {
    meaning: 'stopped while one site still lacks a batch that the other took in',
    exitCode: EXIT.keysOwedAtStop,
  },
  E_KEYS_DIFFER: { meaning: 'the two sites hold different keys', exitCode: EXIT.keysDiffer },
  E_STATE_FOLDER: { meaning: 'the state folder cannot be used', exitCode: EXIT.configuration },
} as const satisfies Record<string, CodeEntry>

export type ErrorCode = keyof typeof entries

/** What each stable error code means, and the exit code it ends the process with, if it does. */
export const ERROR_CODES: Readonly<Record<ErrorCode, CodeEntry>> = entries
