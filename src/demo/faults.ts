/** The faults that the demonstration can inject at site A once keys run. */

export interface DemoFault {
  readonly name: string
  readonly what: string
  /** Which of the site's processes it happens to. */
  readonly target: 'emulator' | 'sshd' | 'site-agent' | 'gateway'
  /** Command on the process' stdin, or the process is killed and started again after this long. */
  readonly action: { command: string } | { killForMs: number }
  /** How long the fault itself lasts; what comes after is recovery. */
  readonly lastsMs: number
}

export const demoFaults: readonly DemoFault[] = [
  {
    name: 'corrupt-frame',
    what: 'three frames of the device arrive with a wrong byte',
    target: 'emulator',
    action: { command: 'corrupt 3' },
    lastsMs: 200,
  },
  {
    name: 'drop-frame',
    what: 'three frames of the device are lost',
    target: 'emulator',
    action: { command: 'drop 3' },
    lastsMs: 200,
  },
  {
    name: 'repeat-frame',
    what: 'three frames of the device come twice',
    target: 'emulator',
    action: { command: 'repeat 3' },
    lastsMs: 200,
  },
  {
    name: 'compromised',
    what: 'the device marks three keys as compromised',
    target: 'emulator',
    action: { command: 'compromised 3' },
    lastsMs: 200,
  },
  {
    name: 'unplug',
    what: 'the cable is pulled in mid-frame and put back after 2 s',
    target: 'emulator',
    action: { command: 'unplug 2000' },
    lastsMs: 2000,
  },
  {
    name: 'hang-device',
    what: 'the device says nothing for 4 s',
    target: 'emulator',
    action: { command: 'hang 4000' },
    lastsMs: 4000,
  },
  { name: 'cut-tunnel', what: 'the SSH connection is reset', target: 'sshd', action: { command: 'cut' }, lastsMs: 200 },
  {
    name: 'kill-sshd',
    what: 'the SSH server dies and is back after 2 s',
    target: 'sshd',
    action: { killForMs: 2_000 },
    lastsMs: 200,
  },
  {
    name: 'kill-gateway',
    what: 'the gateway is killed and started again at once',
    target: 'gateway',
    action: { killForMs: 100 },
    lastsMs: 100,
  },
  {
    name: 'kill-site-agent',
    what: 'the SiteAgent dies and comes back after 1 s, without its keys',
    target: 'site-agent',
    action: { killForMs: 1_000 },
    lastsMs: 1000,
  },
]
