import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Files that take longest, the longest first; the rest is quick. */
const LONGEST = [
  'link/exploration',
  'gateway/attach-exit',
  'gateway/attach-network',
  'gateway/attach-instance',
  'gateway/attach-stop',
  'drivers/unplug',
  'gateway/keep-up',
  'tunnel/outages',
  'demo/demo',
  'cli/link-audit',
  'gateway/attach-pair',
  'gateway/stalled-site',
  'gateway/attach-tls',
  'gateway/attach-device',
  'gateway/attach-drivers',
  'link/soak-short',
  'tunnel/backends',
  'gateway/attach-tunnel',
  'gateway/attach-metrics',
  'gateway/dummy-process',
  'device/trace',
  'drivers/tdc1/driver',
  'drivers/faults',
  'tunnel/command',
  'tunnel/process',
  'gateway/attach-config',
  'gateway/dummy-dead-peer',
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
