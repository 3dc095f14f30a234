/** Random sources by name, for drivers that need one. Loaded only when asked for. */
import { GatewayError } from '../base/errors.js'
import type { Driver, DriverContext } from './contract.js'
import { isRandomDevice, type RandomDevice } from './random-source.js'

const SOURCES: Readonly<Record<string, () => Promise<{ driver: Driver }>>> = {
  os: () => import('../../drivers/random/os.js'),
  qcicada: () => import('../../drivers/random/qcicada.js'),
  quantis: () => import('../../drivers/random/quantis.js'),
  swiftrng: () => import('../../drivers/random/swiftrng.js'),
  truerng: () => import('../../drivers/random/truerng.js'),
}

/** Whether `name` or `name:device` names a source. */
export function namesRandomSource(text: string): boolean {
  return Object.hasOwn(SOURCES, text.split(':', 1)[0] ?? '')
}

/**
 * The source that `name` or `name:device` stands for ("os", "qcicada:/dev/ttyUSB0"), not running yet. Rejects with
 * E_CONFIG for a name that there is none of.
 */
export async function createRandomDevice(text: string, context: DriverContext): Promise<RandomDevice> {
  const name = text.split(':', 1)[0] ?? ''
  const load = Object.hasOwn(SOURCES, name) ? SOURCES[name] : undefined
  if (load === undefined) {
    throw new GatewayError('E_CONFIG', `"${text}" names no random source`, {
      remedy: `sources are: ${Object.keys(SOURCES).join(', ')}; with their device as qcicada:/dev/ttyUSB0`,
    })
  }
  const { driver } = await load()
  const device = driver.create({ ...context, device: text.slice(name.length + 1), options: {} })
  if (!isRandomDevice(device)) throw new GatewayError('E_INTERNAL', `${name} is no random source`)
  return device
}
