import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take longest, the longest first; the rest is quick. */
const LONGEST = [
  'drivers/unplug',
  'tunnel/outages',
  'link/exploration',
  'gateway/keep-up',
  'drivers/faults',
  'gateway/attach-stop',
  'cli/link-audit',
  'gateway/attach-pair',
  'gateway/attach-network',
  'link/soak-short',
  'gateway/attach-device',
  'gateway/stalled-site',
  'gateway/attach-exit',
  'demo/demo',
  'tunnel/backends',
  'tunnel/real-sshd',
  'drivers/reader/driver',
  'gateway/attach-instance',
  'gateway/attach-tunnel',
  'tunnel/command',
  'drivers/tdc1/driver',
  'gateway/attach-drivers',
  'drivers/random/sources',
  'tunnel/process',
].map((name) => `test/${name}.test.ts`)

/** Begins with the longest files, so that no worker is left alone with one of them at the end. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST.findIndex((name) => moduleId.endsWith(name))
      return place === -1 ? LONGEST.length : place
    }
    const sorted = await super.sort(files)
    return sorted.toSorted((one, two) => rank(one) - rank(two))
  }
}
