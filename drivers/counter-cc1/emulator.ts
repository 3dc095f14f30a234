import { z } from 'zod'
import { createAnsweringEmulator } from '../../src/device/answering-emulator.js'
import { decimalNumber, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { EmulatorFactory } from '../../src/device/emulator-contract.js'
import { BAUD, line, NEW_FROM } from './protocol.js'

const optionsSchema = z.strictObject({
  firmware: decimalNumber(1, 9).prefault('2.21'),
  rate: wholeNumber(0, 10_000_000).prefault('20000'),
  'dwell-s': decimalNumber(0.01, 100).prefault('1'),
})

/** A CC1 whose coincidences go up and down as if somebody turned a polariser. */
export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  options: {
    firmware: 'version; below 2.2 it does not know :ACKN and tells milliseconds; default 2.21',
    rate: 'counts a second on either input; default 20000',
    'dwell-s': 'seconds of one count; default 1',
  },
  create(context) {
    const options = parseOptions('emulator counter-cc1', optionsSchema, context.options, 'E_USAGE')
    const { firmware, rate } = options
    let dwellS = options['dwell-s']
    let windowNs = 7
    let delayNs = 0
    let turn = 0
    let text = ''

    const count = (perSecond: number): string =>
      String(Math.round(perSecond * dwellS * (0.98 + 0.04 * context.random.fraction())))

    function answer(command: string): string | undefined {
      const [name = '', value = ''] = command.toUpperCase().split(' ')
      switch (name) {
        case ':ACKN':
          return firmware < NEW_FROM ? 'Unknown Command' : undefined
        case 'FIRM?':
          return `Firmware v${firmware.toFixed(3)}`
        case 'COUN:C1?':
        case 'COUN:C2?':
          return count(rate)
        case 'COUN:CO?':
          turn += 1
          return count((rate / 10) * (1 + 0.9 * Math.cos(turn / 3)))
        case 'WIND?':
          return String(windowNs)
        case 'DELA?':
          return String(delayNs)
        case 'DWEL?':
          return firmware < NEW_FROM ? String(dwellS * 1_000) : String(dwellS)
        case ':WIND':
          windowNs = Number(value)
          return undefined
        case ':DELA':
          delayNs = Number(value)
          return undefined
        case ':DWEL':
          dwellS = Number(value)
          return undefined
        case ':GATE:ON':
        case ':GATE:OFF':
        case ':GATE':
        case 'CLEA':
          return undefined
        default:
          return 'Unknown Command'
      }
    }

    return createAnsweringEmulator({
      context,
      name: 'CC1',
      baudRate: BAUD,
      facts: () => ({ windowNs, delayNs, dwellS }),
      hear(chunk) {
        text += Buffer.from(chunk).toString('latin1')
        const commands = text.split('\n')
        text = (commands.pop() ?? '').slice(-100)
        return commands.flatMap((command) => {
          const said = answer(command.trim())
          return said === undefined ? [] : [line(said)]
        })
      },
    })
  },
}
