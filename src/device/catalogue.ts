/** The drivers there are. A descriptor is cheap to import; driver and emulator are loaded only when asked for. */
import { GatewayError } from '../base/errors.js'
import type { Driver, DriverDescriptor } from './contract.js'
import type { EmulatorFactory } from './emulator-contract.js'
import type { TraceFactory } from './trace-contract.js'
import { descriptor as clavis2 } from '../../drivers/clavis2/descriptor.js'
import { descriptor as counterAbacus } from '../../drivers/counter-abacus/descriptor.js'
import { descriptor as counterCc1 } from '../../drivers/counter-cc1/descriptor.js'
import { descriptor as dummyqkd } from '../../drivers/dummyqkd/descriptor.js'
import { descriptor as ekpqc } from '../../drivers/ekpqc/descriptor.js'
import { descriptor as ledEmitter } from '../../drivers/led-emitter/descriptor.js'
import { descriptor as nox } from '../../drivers/nox/descriptor.js'
import { descriptor as qix } from '../../drivers/qix/descriptor.js'
import * as random from '../../drivers/random/descriptors.js'
import { descriptor as reader } from '../../drivers/reader/descriptor.js'
import { descriptor as replay } from '../../drivers/replay/descriptor.js'
import { descriptor as tdc1 } from '../../drivers/tdc1/descriptor.js'

/** One line of the catalogue. */
export interface CatalogueEntry {
  readonly descriptor: DriverDescriptor
  loadDriver(): Promise<Driver>
  loadEmulator?(): Promise<EmulatorFactory>
  /** Decoded frames in `qkd-gw trace`. */
  loadTrace?(): Promise<TraceFactory>
}

/** Makes an entry of modules that export `driver`, `emulator` and `trace`. */
function entry(
  descriptor: DriverDescriptor,
  driver: () => Promise<{ driver: Driver }>,
  emulator?: () => Promise<{ emulator: EmulatorFactory }>,
  trace?: () => Promise<{ trace: TraceFactory }>,
): CatalogueEntry {
  return {
    descriptor,
    loadDriver: async () => (await driver()).driver,
    ...(emulator === undefined ? {} : { loadEmulator: async () => (await emulator()).emulator }),
    ...(trace === undefined ? {} : { loadTrace: async () => (await trace()).trace }),
  }
}

// One line a driver.
// prettier-ignore
export const CATALOGUE: readonly CatalogueEntry[] = [
  entry(qix, () => import('../../drivers/qix/driver.js'), () => import('../../drivers/qix/emulator.js'), () => import('../../drivers/qix/trace.js')),
  entry(dummyqkd, () => import('../../drivers/dummyqkd/driver.js')),
  entry(clavis2, () => import('../../drivers/clavis2/driver.js')),
  entry(ekpqc, () => import('../../drivers/ekpqc/driver.js'), () => import('../../drivers/ekpqc/emulator.js'), () => import('../../drivers/ekpqc/trace.js')),
  entry(nox, () => import('../../drivers/nox/driver.js'), () => import('../../drivers/nox/emulator.js'), () => import('../../drivers/nox/trace.js')),
  entry(ledEmitter, () => import('../../drivers/led-emitter/driver.js'), () => import('../../drivers/led-emitter/emulator.js'), () => import('../../drivers/led-emitter/trace.js')),
  entry(random.qcicada, () => import('../../drivers/random/qcicada.js'), async () => ({ emulator: (await import('../../drivers/random/emulators.js')).qcicadaEmulator }), async () => ({ trace: (await import('../../drivers/random/trace.js')).qcicadaTrace })),
  entry(random.swiftrng, () => import('../../drivers/random/swiftrng.js'), async () => ({ emulator: (await import('../../drivers/random/emulators.js')).swiftrngEmulator }), async () => ({ trace: (await import('../../drivers/random/trace.js')).swiftrngTrace })),
  entry(random.truerng, () => import('../../drivers/random/truerng.js'), async () => ({ emulator: (await import('../../drivers/random/emulators.js')).truerngEmulator }), async () => ({ trace: (await import('../../drivers/random/trace.js')).truerngTrace })),
  entry(random.quantis, () => import('../../drivers/random/quantis.js'), async () => ({ emulator: (await import('../../drivers/random/quantis-emulator.js')).quantisEmulator })),
  entry(random.osRandom, () => import('../../drivers/random/os.js')),
  entry(counterCc1, () => import('../../drivers/counter-cc1/driver.js'), () => import('../../drivers/counter-cc1/emulator.js'), () => import('../../drivers/counter-cc1/trace.js')),
  entry(counterAbacus, () => import('../../drivers/counter-abacus/driver.js'), () => import('../../drivers/counter-abacus/emulator.js'), () => import('../../drivers/counter-abacus/trace.js')),
  entry(tdc1, () => import('../../drivers/tdc1/driver.js'), () => import('../../drivers/tdc1/emulator.js'), () => import('../../drivers/tdc1/trace.js')),
  entry(replay, () => import('../../drivers/replay/driver.js')),
  entry(reader, () => import('../../drivers/reader/driver.js')),
]

function names(entries: readonly CatalogueEntry[]): string {
  return entries.map(({ descriptor }) => descriptor.name).join(', ')
}

/** The entry of that name. Throws E_DRIVER_UNKNOWN, listing those there are. */
export function findEntry(name: string, catalogue: readonly CatalogueEntry[] = CATALOGUE): CatalogueEntry {
  const entry = catalogue.find(({ descriptor }) => descriptor.name === name.toLowerCase())
  if (entry !== undefined) return entry
  throw new GatewayError('E_DRIVER_UNKNOWN', `there is no driver named ${name}`, {
    remedy: `drivers are: ${names(catalogue)}`,
    details: { driver: name },
  })
}

/** Loads a driver by name. Rejects with E_DRIVER_UNKNOWN. */
export async function loadDriver(name: string): Promise<Driver> {
  return findEntry(name).loadDriver()
}

/** Loads a driver's emulator. Rejects with E_DRIVER_UNKNOWN where there is no such driver or it has no emulator. */
export async function loadEmulator(name: string): Promise<EmulatorFactory> {
  const entry = findEntry(name)
  if (entry.loadEmulator !== undefined) return entry.loadEmulator()
  const able = CATALOGUE.filter((candidate) => candidate.loadEmulator !== undefined)
  throw new GatewayError('E_DRIVER_UNKNOWN', `driver ${name} has no emulator that runs by itself`, {
    remedy: `emulators are: ${names(able)}; where a driver runs a program, the stand-in is one too (see its README)`,
  })
}

/** The entry that a device argument such as `replay:FILE` names by its scheme, and what follows the scheme. */
export function findByScheme(
  device: string,
  catalogue: readonly CatalogueEntry[] = CATALOGUE,
): { entry: CatalogueEntry; rest: string } | undefined {
  const match = /^([a-z][a-z0-9-]+):(.*)$/s.exec(device)
  const scheme = match?.[1]
  if (scheme === undefined) return undefined
  const entry = catalogue.find(({ descriptor }) => descriptor.schemes?.includes(scheme) === true)
  return entry === undefined ? undefined : { entry, rest: match?.[2] ?? '' }
}
