import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { openMedium } from '../../../drivers/ekpqc/medium.js'

const parent = mkdtempSync(join(tmpdir(), 'qkd-gw-media-'))
afterEach(() => rmSync(parent, { recursive: true, force: true }))

describe('the fibre between emulated boards', () => {
  it('leaves no folder behind, and is there for whoever stays or joins while others leave', async () => {
    const folder = join(parent, 'light')
    const [first, second] = await Promise.all([openMedium('one', folder), openMedium('other', folder)])
    await second.close()
    expect(readdirSync(folder)).toEqual(['one'])
    const leaving = Array.from({ length: 50 }, async () => (await openMedium('busy', folder)).close())
    await Promise.all(leaving)
    expect(readdirSync(folder)).toEqual(['one'])
    const partner = await openMedium('one', folder)
    const seen = first.wait(new AbortController().signal)
    await partner.shine(Uint8Array.of(1, 2, 3))
    expect(await seen).toEqual(Uint8Array.of(1, 2, 3))
    await partner.close()
    await first.close()
    expect(existsSync(folder)).toBe(false)
  })
})
