/** Pulls a device out at any moment and puts it back under another number, time after time. */
import { readdirSync, realpathSync } from 'node:fs'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { type Bench, type DriverCase, startBench, untilState } from './every-driver.js'

export interface UnplugReport {
  driver: string
  rounds: number
  /** Different nodes (or USB addresses) under which the device came back. */
  places: number
  /** From the cable being back to the device being open again (USB: at work again), ms. */
  slowestReopenMs: number
  medianReopenMs: number
  descriptorsBefore: number
  descriptorsAfter: number
  heapGrowthMb: number
  cpuMsPerRound: number
}

const MOMENTS = ['in the middle of a frame', 'now', 'while it is opened', 'the other cable'] as const

export const openDescriptors = (): number => readdirSync('/proc/self/fd').length
const isOpen = (state: string): boolean => ['open', 'identified', 'producing', 'silent'].includes(state)

async function until(what: string, holds: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 30_000
  while (!holds()) {
    if (performance.now() > giveUpAtMs) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** One cable of a bench: how it is pulled and put back. */
interface Cable {
  kind: 'serial' | 'usb'
  pull(now: boolean): Promise<unknown>
  isPulled(): boolean
  putBack(): Promise<unknown>
}

function cablesOf({ emulator, line }: Bench, { cables }: DriverCase): readonly Cable[] {
  const main: Cable = {
    kind: cables === 'serial' ? 'serial' : 'usb',
    pull: (now) => emulator.fault('unplug', now ? ['0', 'now'] : ['0']),
    isPulled: () => emulator.facts()['plugged'] === false,
    putBack: () => emulator.fault('plug', []),
  }
  if (cables !== 'serial and usb') return [main]
  const control: Cable = {
    kind: 'serial',
    pull: () => emulator.fault('unplug-serial', ['0']),
    isPulled: () => !line.plugged,
    putBack: () => emulator.fault('plug-serial', []),
  }
  return [main, control]
}

async function pullOnce(bench: Bench, cable: Cable, moment: (typeof MOMENTS)[number]): Promise<void> {
  const { device } = bench
  const losses = Number(device.facts()['losses'])
  await cable.pull(moment !== 'in the middle of a frame')
  await until('the cable is pulled', () => cable.isPulled())
  await until('the loss is seen', () => Number(device.facts()['losses']) > losses || !isOpen(device.state.value.state))
  if (moment !== 'while it is opened') return
  await cable.putBack()
  await untilState(device, 'the opening begins', ({ state }) => state !== 'absent')
  await cable.pull(true)
  await until('the cable is pulled again', () => cable.isPulled())
  await untilState(device, 'the second loss is seen', ({ state }) => !isOpen(state) || state === 'silent')
}

/** A device at work whose cables are pulled, round after round. */
export interface Unplugging {
  /** Rejects where the device does not come back, or where its driver ends. */
  pull(rounds: number): Promise<void>
  figures(): Pick<UnplugReport, 'rounds' | 'places' | 'slowestReopenMs' | 'medianReopenMs'>
  stop(): Promise<void>
}

/** Rejects where the device does not begin to work. */
export async function startUnplugging(chosen: DriverCase): Promise<Unplugging> {
  const bench = await startBench(chosen)
  const { device, line, emulator } = bench
  let where = 'at the start'
  const reaches = (what: string, accept: (state: string) => boolean): Promise<unknown> =>
    untilState(device, `${chosen.driver} ${what}, ${where}`, ({ state }) => accept(state)).catch((error: unknown) => {
      throw new Error(`emulator: ${JSON.stringify(emulator.facts())}`, { cause: error })
    })
  const works = (): Promise<unknown> => reaches('works', (state) => state === chosen.works || state === 'producing')
  let ended = false
  void bench.ended.finally(() => (ended = true))
  const cables = cablesOf(bench, chosen)
  const reopenMs: number[] = []
  const places = new Set<string>()

  async function pullInRound(round: number): Promise<void> {
    const moment = MOMENTS[round % MOMENTS.length] ?? 'now'
    const cable = (moment === 'the other cable' ? cables[1] : undefined) ?? cables[0]
    if (cable === undefined) throw new Error('no cable')
    where = `round ${round}, ${moment}`
    await pullOnce(bench, cable, moment)
    // Now and then the number that was given back is taken by somebody else.
    const stranger =
      cable.kind === 'serial' && round % 5 === 3
        ? await openPtyLine({ clock: systemClock, random: systemRandom })
        : undefined
    await cable.putBack()
    const backAtMs = performance.now()
    if (cable.kind === 'usb') await works()
    else await reaches('is open again', isOpen)
    reopenMs.push(performance.now() - backAtMs)
    places.add(chosen.cables === 'usb' ? String(round) : realpathSync(line.path))
    await works()
    await stranger?.close()
    if (ended) throw new Error(`the driver of ${chosen.driver} ended by itself in round ${round}`)
  }

  try {
    await works()
  } catch (error) {
    await bench.stop()
    throw error
  }
  return {
    async pull(rounds) {
      for (let i = 0; i < rounds; i += 1) await pullInRound(reopenMs.length)
    },
    figures() {
      const sorted = reopenMs.toSorted((a, b) => a - b)
      return {
        rounds: sorted.length,
        places: places.size,
        slowestReopenMs: Math.round(sorted.at(-1) ?? 0),
        medianReopenMs: Math.round(sorted[sorted.length >> 1] ?? 0),
      }
    },
    stop: () => bench.stop(),
  }
}

/** One driver alone, with what its rounds cost. Rejects as `Unplugging.pull` does. */
export async function unplugAndReplug(chosen: DriverCase, rounds: number): Promise<UnplugReport> {
  const unplugging = await startUnplugging(chosen)
  try {
    const unmeasured = Math.max(0, Math.min(5, rounds - 1))
    await unplugging.pull(unmeasured)
    const before = { descriptors: openDescriptors(), heap: process.memoryUsage().heapUsed, cpu: process.cpuUsage() }
    await unplugging.pull(rounds - unmeasured)
    const cpu = process.cpuUsage(before.cpu)
    return {
      driver: chosen.driver,
      ...unplugging.figures(),
      descriptorsBefore: before.descriptors,
      descriptorsAfter: openDescriptors(),
      heapGrowthMb: Math.round((process.memoryUsage().heapUsed - before.heap) / 1e5) / 10,
      cpuMsPerRound: Math.round((cpu.user + cpu.system) / 1_000 / Math.max(1, rounds - unmeasured)),
    }
  } finally {
    await unplugging.stop()
  }
}
