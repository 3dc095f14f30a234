/** What stands in the two labs of the demonstration. */

export interface DemoDevice {
  readonly driver: string
  /** Options of the drivers, equal at both sites. */
  readonly driverOptions: Readonly<Record<string, string>>
  /** Arguments of `qkd-gw emulate` for the device of a site. */
  emulatorArgs(site: 'A' | 'B'): readonly string[]
  /** Arguments of a further emulator, between the two devices. */
  readonly between?: readonly string[]
  /** The device on a machine without pseudo-terminals; without it there is none. */
  readonly inMemory?: string
  /** Whether a line of a gateway's log is part of a lesson, to be shown as it is. */
  isLesson(text: string): boolean
  /** How long a link may be without a key before the operator starts it again, s; 0: for ever. */
  readonly stalledAfterS: number
}

/** Serial key streams: both units send the same keys by the wall clock. */
export function qixUnits(seed: string): DemoDevice {
  return {
    driver: 'qix',
    driverOptions: {},
    emulatorArgs: () => ['qix', '--pair', seed],
    inMemory: `emulator:pair=${seed},rate=20`,
    isLesson: () => false,
    stalledAfterS: 120,
  }
}

export interface LessonOptions {
  /** Names the light, so that two demonstrations do not shine into each other. */
  seed: string
  /** How many times as fast as the kit, 1 to 1000. */
  speed: number
  /** Somebody measures the pulses and sends on what she found. */
  eve: boolean
}

/** The driver's account of a run, its steps and its table, and of the key made of several. */
const LESSON =
  /^(run \d+[,:]|window \d+:|pulse |Alice sends|Alice's bits|Bob measures|Bob reads|Bob's bits|same basis|compared|for the key|\d+ of \d+ bits)/

/** The teaching kit: a board with a laser, one with a photodiode, and Eve's between them. */
export function ekpqcBoards({ seed, speed, eve }: LessonOptions): DemoDevice {
  const fibre = (end: string): string[] => ['-o', `fibre=${eve ? `${seed}-${end}` : seed}`]
  const fast = ['-o', `speed=${speed}`]
  return {
    driver: 'ekpqc',
    driverOptions: { speed: String(speed), 'key-bytes': '8' },
    emulatorArgs: (site) => ['ekpqc', ...fibre(site === 'A' ? 'to-eve' : 'from-eve'), ...fast],
    ...(eve
      ? { between: ['ekpqc', '-o', 'board=eve', ...fibre('to-eve'), '-o', `onward=${seed}-from-eve`, ...fast] }
      : {}),
    isLesson: (text) => LESSON.test(text),
    // A key takes many runs, and with Eve there is none.
    stalledAfterS: 0,
  }
}
