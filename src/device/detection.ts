/** What is attached to this machine, which driver each device is for, and what stands in the way. Opens nothing. */
import { realpath } from 'node:fs/promises'
import { GatewayError } from '../base/errors.js'
import { portHolders, type PortHolder } from '../io/holders.js'
import { type Identity, ownIdentity } from '../io/permission.js'
import { CATALOGUE, type CatalogueEntry } from './catalogue.js'
import type { UsbMatch } from './contract.js'
import { type Hint, hintsFor } from './detection-hints.js'
import { type Attached, type DetectionRoots, listAttached, systemRoots, type UsbStrings } from './sysfs.js'

/** A driver that a device may be for. */
export interface Guess {
  driver: string
  /** 0 to 100; below 30 it is never taken without being named. */
  score: number
  reason: string
}

export interface DetectedDevice {
  transport: 'serial' | 'usb'
  /** What to give to `attach`: the stable name where there is one. */
  path: string
  node: string | null
  stableName: string | null
  usb: UsbStrings
  /** Best first. */
  guesses: Guess[]
  holders: PortHolder[]
  /** What is missing or in the way, each with its remedy. */
  hints: Hint[]
}

export interface DetectionOptions {
  roots?: DetectionRoots
  catalogue?: readonly CatalogueEntry[]
  identity?: Identity
}

/** Guesses below this are for people to look at, never taken by themselves. */
export const LEAST_SCORE_TO_CHOOSE = 30

/** Whether everything that a match names fits. A by-id name holds manufacturer, product and serial, spaces as `_`. */
function fits(match: UsbMatch, { usb, nameOnly }: Attached): boolean {
  if (nameOnly !== undefined) {
    if (match.vendorId !== undefined || match.productId !== undefined) return false
    const text = nameOnly.replaceAll('_', ' ')
    return [match.manufacturer, match.product, match.serialNumber].every(
      (pattern) =>
        pattern === undefined || new RegExp(pattern.source.replace(/^\^|\$$/g, ''), pattern.flags).test(text),
    )
  }
  const sameId = (wanted: string | undefined, found: string | undefined): boolean =>
    wanted === undefined || wanted.toLowerCase() === found?.toLowerCase()
  const sameText = (wanted: RegExp | undefined, found: string | undefined): boolean =>
    wanted === undefined || (found !== undefined && wanted.test(found))
  return (
    sameId(match.vendorId, usb.vendorId) &&
    sameId(match.productId, usb.productId) &&
    sameText(match.manufacturer, usb.manufacturer) &&
    sameText(match.product, usb.product) &&
    sameText(match.serialNumber, usb.serialNumber)
  )
}

function guessesFor(attached: Attached, catalogue: readonly CatalogueEntry[]): Guess[] {
  return catalogue
    .flatMap(({ descriptor }): Guess[] => {
      const best = descriptor.usb.filter((match) => fits(match, attached)).sort((a, b) => b.score - a.score)[0]
      return best === undefined ? [] : [{ driver: descriptor.name, score: best.score, reason: best.reason }]
    })
    .sort((a, b) => b.score - a.score || a.driver.localeCompare(b.driver))
}

/** Every serial port on USB, and every USB device that a driver may be for. */
export async function detectDevices(options: DetectionOptions = {}): Promise<DetectedDevice[]> {
  const { roots = systemRoots, catalogue = CATALOGUE, identity = ownIdentity() } = options
  const found: DetectedDevice[] = []
  for (const attached of await listAttached(roots)) {
    const guesses = guessesFor(attached, catalogue)
    if (attached.transport === 'usb' && guesses.length === 0) continue
    const { node, stableName, usb } = attached
    const ids = `usb:${usb.vendorId ?? ''}:${usb.productId ?? ''}`
    found.push({
      transport: attached.transport,
      path: stableName ?? node ?? (usb.serialNumber === undefined ? ids : `${ids}:${usb.serialNumber}`),
      node: node ?? null,
      stableName: stableName ?? null,
      usb,
      guesses,
      holders: node === undefined ? [] : await portHolders(node, roots.proc),
      hints: await hintsFor(attached, roots, identity),
    })
  }
  return found
}

/**
 * The driver for a device argument that came without one, by the same table. Rejects with E_DEVICE_TIE where two fit
 * equally well, E_DRIVER_UNKNOWN where none fits well enough; both list what was considered. Opens nothing.
 */
export async function chooseDriver(
  path: string,
  options: DetectionOptions = {},
): Promise<{ entry: CatalogueEntry; guess: Guess }> {
  const { catalogue = CATALOGUE } = options
  const node = await realpath(path).catch(() => path)
  const device = (await detectDevices(options)).find((each) => each.path === path || each.node === node)
  const guesses = device?.guesses ?? []
  const [best, second] = guesses
  const all = guesses.map(({ driver, score, reason }) => `${driver} (${score}: ${reason})`).join(', ')
  if (best === undefined || best.score < LEAST_SCORE_TO_CHOOSE) {
    const why =
      device === undefined
        ? 'it is not attached, or is no USB device'
        : all === ''
          ? 'no driver knows it'
          : `only ${all}`
    throw new GatewayError('E_DRIVER_UNKNOWN', `${path}: its driver cannot be told: ${why}`, {
      remedy: `name it with --driver; drivers are: ${catalogue.map(({ descriptor }) => descriptor.name).join(', ')}`,
      details: { path },
    })
  }
  if (second !== undefined && second.score === best.score) {
    throw new GatewayError('E_DEVICE_TIE', `${path}: several drivers fit equally well: ${all}`, {
      remedy: 'name one with --driver',
      details: { path },
    })
  }
  const entry = catalogue.find(({ descriptor }) => descriptor.name === best.driver)
  if (entry === undefined) throw new GatewayError('E_INTERNAL', `driver ${best.driver} is not in the catalogue`)
  return { entry, guess: best }
}
