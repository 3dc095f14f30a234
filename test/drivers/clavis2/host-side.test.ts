import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type InitialKeyUse, installInitialKey } from '../../../drivers/clavis2/install.js'
import {
  type KeySpelling,
  missingDigits,
  renderInstallationFile,
  spellingIn,
  upstreamSpellsWrongly,
} from '../../../drivers/clavis2/installation-file.js'
import { aliceArguments, bobArguments, parseProgramLine } from '../../../drivers/clavis2/program-lines.js'
import { seededRandom } from '../support/pair.js'

const key = Uint8Array.from({ length: 32 }, (_, i) => i)
const FULL = '000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F'
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

describe("the host program's lines", () => {
  it.each([
    [
      'INFO x VisibilityMeasurement: Visibility of the system: 98.71%',
      ['Alignment', 'Visibility'],
      98.71,
      'percent',
      false,
    ],
    ['INFO ErrorCorrectionCascade: QBER: 1.25', ['ErrorCorrection', 'QBER'], 1.25, 'percent', false],
    ['INFO PrivacyAmplification: Final key size: 4096', ['Key', 'Key size'], 4096, 'count', false],
    ['INFO LineMeasurement: Line length: \t  25012', ['Key', 'Line length'], 25012, 'hz', false],
    ['INFO 12:00 PrivacyAmplification: Secret Key Rate = 512.5 bits/s', ['Key', 'Key Rate'], 512.5, 'percent', true],
  ])('give a figure: %s', (line, path, value, unit, keysReady) => {
    const parsed = parseProgramLine(line)
    expect(parsed).toMatchObject({ level: 'info', keysReady })
    expect(parsed.figure).toEqual({ type: 'figure', path, value, unit })
  })

  it('are told by how they begin, and give no figure in a warning or an error', () => {
    expect(parseProgramLine('WARN ErrorCorrectionCascade: QBER: 11')).toMatchObject({ level: 'warn', keysReady: false })
    expect(parseProgramLine('WARN ErrorCorrectionCascade: QBER: 11').figure).toBeUndefined()
    expect(parseProgramLine('ERROR PrivacyAmplification: Secret Key Rate = 1').keysReady).toBe(false)
    expect(parseProgramLine('Segmentation fault').level).toBe('unknown')
    expect(parseProgramLine('INFO ErrorCorrectionCascade: QBER: nan').figure).toBeUndefined()
  })

  it('never make the parser slow or throw', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (line) => {
        parseProgramLine(`INFO ${line}`)
      }),
    )
  })

  it('come from a program called as upstream calls it', () => {
    expect(bobArguments(0)).toEqual(['--bob', '--line_attenuation', '3.000000'])
    expect(bobArguments(7.5)).toEqual(['--bob', '--line_attenuation', '7.500000'])
    expect(aliceArguments('192.168.2.22')).toEqual(['--alice', '--ip_bob', '192.168.2.22'])
  })
})

describe('the installation file', () => {
  it('holds 64 upper-case digits under the two headings', () => {
    expect(text(renderInstallationFile(key, 'full'))).toBe(
      `[devices]\nmax_devices = 12\n[installation]\ninitial_secret_key = ${FULL}\n`,
    )
  })

  it('can be spelt as the wrapper of CQPToolkit spells it', () => {
    expect(text(renderInstallationFile(key, 'upstream'))).toContain(
      'initial_secret_key = 00123456789ABCDEF101112131415161718191A1B1C1D1E1F\n',
    )
  })

  it('is spelt alike in both ways exactly where no byte but the first is below 10 hex', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const full = renderInstallationFile(bytes, 'full')
        const upstream = renderInstallationFile(bytes, 'upstream')
        const differ = !Buffer.from(full).equals(upstream)
        expect(upstreamSpellsWrongly(bytes)).toBe(differ)
        expect(spellingIn(full, bytes)).toBe(differ ? 'full' : 'both')
        expect(spellingIn(upstream, bytes)).toBe(differ ? 'upstream' : 'both')
        expect(missingDigits(full)).toBe(0)
        expect(missingDigits(upstream)).toBe(full.length - upstream.length)
      }),
    )
  })

  it('is recognised with other spaces, without a key, and with another key', () => {
    expect(spellingIn(Buffer.from(`initial_secret_key=${FULL}`), key)).toBe('full')
    expect(spellingIn(Buffer.from(`initial_secret_key =\t${FULL}\r\nx = 1`), key)).toBe('full')
    expect(spellingIn(Buffer.from('[devices]\n'), key)).toBe('none')
    expect(spellingIn(Buffer.from('initial_secret_key = \n'), key)).toBe('none')
    expect(
      spellingIn(
        renderInstallationFile(key, 'full'),
        key.map((byte) => byte ^ 1),
      ),
    ).toBe('otherKey')
  })
})

describe('installing the initial key', () => {
  let folder: string
  let file: string
  let lines: string[]

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'clavis2-'))
    file = join(folder, 'idq', 'vectis.conf')
    lines = []
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const install = (
    bytes: Uint8Array,
    spelling: KeySpelling = 'full',
    use: InitialKeyUse = 'site',
  ): ReturnType<typeof installInitialKey> =>
    installInitialKey(bytes, {
      use,
      file,
      logFolder: join(folder, 'log'),
      spelling,
      random: seededRandom(1),
      log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) }),
    })

  it('makes the folders, and a file that only its owner can read', async () => {
    expect(await install(key)).toEqual({ written: true, wellKnown: false, upstreamDiffers: true })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await stat(join(folder, 'idq'))).mode & 0o777).toBe(0o700)
    expect(await readFile(file, 'utf8')).toContain(FULL)
    expect((await stat(join(folder, 'log'))).isDirectory()).toBe(true)
    expect(lines.join('')).not.toContain('0102030405')
  })

  it('narrows a file that others could read', async () => {
    await install(key)
    await rm(file)
    await writeFile(file, 'old', { mode: 0o644 })
    await install(key)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })

  it("says where the file before was written by CQPToolkit's wrapper", async () => {
    await install(key, 'upstream')
    expect(lines.join('')).not.toContain('wrapper')
    await install(key)
    expect(lines.join('')).toContain("written by CQPToolkit's wrapper")
    expect(await readFile(file, 'utf8')).toContain(FULL)
  })

  it('leaves the installed key where the site gives none, and says if its digits are missing', async () => {
    await install(key, 'upstream')
    expect(await install(new Uint8Array(0))).toEqual({ written: false, wellKnown: false, upstreamDiffers: false })
    expect(lines.join('')).toContain('"missing":15')
  })

  it('takes a key that everybody knows only where that was asked for by name, and says so', async () => {
    for (const known of [Buffer.from('the same text at every site, 32 b'.slice(0, 32)), Buffer.alloc(32, 7)]) {
      await expect(install(known)).rejects.toMatchObject({
        code: 'E_UNSAFE',
        remedy: expect.stringContaining('initial-key=well-known') as string,
      })
      expect(lines.join('')).not.toContain('NOT SECRET')
      expect(await install(known, 'full', 'well-known')).toMatchObject({ written: true, wellKnown: true })
      expect(lines.join('')).toContain('keys are NOT SECRET')
      lines = []
    }
  })

  it('keeps the key that somebody carried there, whatever the site gives, where that was asked for', async () => {
    await install(key)
    const other = key.map((byte) => byte ^ 0x55)
    expect(await install(other, 'full', 'installed')).toMatchObject({ written: false, wellKnown: false })
    expect(await readFile(file, 'utf8')).toContain(FULL)
  })

  it('refuses a key of another length, and having neither key nor file', async () => {
    await expect(install(new Uint8Array(25))).rejects.toMatchObject({ code: 'E_CONFIG' })
    await expect(install(new Uint8Array(0))).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
  })

  it('names the file that it cannot write', async () => {
    await writeFile(join(folder, 'idq'), 'a file where a folder should be')
    await expect(install(key)).rejects.toMatchObject({ code: 'E_DEVICE_PERMISSION' })
  })
})
