/** Which small worlds are explored. */
import type { FaultName, Rules } from './parts.js'

export interface Profile {
  readonly name: string
  readonly rules: Rules
  /** Nothing of what can happen here parts the stores, and no key is sent twice: a loud state would be a false alarm. */
  readonly harmless: boolean
  /** No report can be lost, so the stores are never more than one batch apart. */
  readonly oneBatch?: boolean
  /** What happens here may part the stores, but nobody says so where they are the same. */
  readonly truthful?: boolean
}

const CPP = ['cpp', 'cpp'] as const
const MUTE = ['mute', 'mute'] as const
const JAVA = ['java', 'java'] as const
const INTERRUPTIONS: readonly FaultName[] = ['disconnect', 'cancel', 'replace']
const CRASHES: readonly FaultName[] = ['crashGateway', 'crashSite', 'crashDevice', 'interruptReports']
const ALL: readonly FaultName[] = [...INTERRUPTIONS, ...CRASHES]

/** What the tests walk through. */
export const TEST_PROFILES: readonly Profile[] = [
  {
    name: 'C++: two lost connections, cancels or newer WaitForSessions over three batches',
    rules: { sites: CPP, faults: INTERRUPTIONS, maxFaults: 2, units: 3, lateUnits: 0, timelyReports: true },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'C++: two of lost reports and cancels around one batch',
    rules: {
      ...{ sites: CPP, faults: ['interruptReports', 'cancel'], maxFaults: 2 },
      ...{ units: 1, lateUnits: 1, timelyReports: true },
    },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'C++: any one fault over three batches',
    rules: { sites: CPP, faults: ALL, maxFaults: 1, units: 3, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'C++: both SiteAgents are restarted together in the middle of two batches of the same size',
    rules: {
      ...{ sites: CPP, faults: ['crashBothSites'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: true, sizes: [2, 2, 2] },
    },
    harmless: true,
  },
  {
    name: 'C++: the left gateway dies once in the middle of two batches',
    rules: { sites: CPP, faults: ['crashLeftGateway'], maxFaults: 1, units: 2, lateUnits: 1, timelyReports: true },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'C++: the right gateway dies once in the middle of two batches',
    rules: { sites: CPP, faults: ['crashRightGateway'], maxFaults: 1, units: 2, lateUnits: 1, timelyReports: true },
    harmless: false,
    truthful: true,
  },
  {
    name: 'C++: any two faults over two batches and a last one',
    rules: { sites: CPP, faults: ALL, maxFaults: 2, units: 2, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'C++: a cancel, a stall, a change of roles or a drop by bound over three batches',
    rules: {
      ...{ sites: CPP, faults: ['cancel', 'stall', 'swapRoles', 'dropByBound'], maxFaults: 1 },
      ...{ units: 3, lateUnits: 1, timelyReports: true },
    },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'C++: one SiteAgent dies and an operator accepts it',
    rules: {
      ...{ sites: CPP, faults: ['crashSite'], maxFaults: 1 },
      ...{ units: 1, lateUnits: 2, timelyReports: true, acceptances: 1 },
    },
    harmless: false,
  },
  {
    name: 'mute C++: a cancel or a lost connection over two batches, with reports later than any deadline',
    rules: {
      ...{ sites: MUTE, faults: ['disconnect', 'cancel'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: false },
    },
    harmless: false,
  },
  {
    name: 'Java: one interruption over two batches',
    rules: {
      ...{ sites: JAVA, faults: [...INTERRUPTIONS, 'stall'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: false },
    },
    harmless: true,
  },
  {
    name: 'Java: two of lost connections and newer WaitForSessions over two batches',
    rules: {
      ...{ sites: JAVA, faults: ['disconnect', 'replace'], maxFaults: 2 },
      ...{ units: 2, lateUnits: 0, timelyReports: false },
    },
    harmless: true,
  },
  {
    name: 'Java: one death or change of roles over two batches',
    rules: {
      ...{ sites: JAVA, faults: ['crashGateway', 'crashSite', 'swapRoles', 'crashDevice'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: false },
    },
    harmless: true,
  },
  {
    name: 'C++ and Java: one interruption or change of roles over two batches',
    rules: {
      ...{ sites: ['cpp', 'java'], faults: [...INTERRUPTIONS, 'swapRoles'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
  {
    name: 'Java and C++: one interruption or death over two batches',
    rules: {
      ...{ sites: ['java', 'cpp'], faults: [...INTERRUPTIONS, 'crashGateway', 'crashSite'], maxFaults: 1 },
      ...{ units: 2, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
  {
    name: 'Java and C++: two deaths of the right gateway and a SiteAgent around one batch',
    rules: {
      ...{ sites: ['java', 'cpp'], faults: ['crashRightGateway', 'crashSite'], maxFaults: 2 },
      ...{ units: 1, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
]

/** A part of a larger one of the above, in which a broken rule is found sooner. */
export const MUTATION_PROFILES: readonly Profile[] = [
  {
    name: 'C++: two deaths of the left gateway and a SiteAgent around one batch',
    rules: {
      ...{ sites: CPP, faults: ['crashLeftGateway', 'crashSite'], maxFaults: 2 },
      ...{ units: 1, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
]

/** What a night walks through. */
export const NIGHTLY_PROFILES: readonly Profile[] = [
  {
    name: 'C++: any two faults over three batches and a last one',
    rules: { sites: CPP, faults: ALL, maxFaults: 2, units: 3, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'C++: both SiteAgents are restarted together, with a cancel or a lost connection, over two batches',
    rules: {
      ...{ sites: CPP, faults: ['crashBothSites', 'cancel', 'disconnect'], maxFaults: 2 },
      ...{ units: 2, lateUnits: 1, timelyReports: true, sizes: [2, 2, 2] },
    },
    harmless: true,
  },
  {
    name: 'C++: a SiteAgent or a gateway dies, a connection is lost, and an operator accepts it',
    rules: {
      ...{ sites: CPP, faults: ['crashSite', 'disconnect', 'crashGateway'], maxFaults: 2 },
      ...{ units: 1, lateUnits: 2, timelyReports: true, acceptances: 1 },
    },
    harmless: false,
  },
  {
    name: 'C++: two of cancels, stalls, changes of roles and drops by bound over two batches',
    rules: {
      ...{ sites: CPP, faults: ['cancel', 'stall', 'swapRoles', 'dropByBound'], maxFaults: 2 },
      ...{ units: 2, lateUnits: 1, timelyReports: true },
    },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'mute C++: any two faults around one batch, with reports that come later than any deadline',
    rules: { sites: MUTE, faults: ALL, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: false },
    harmless: false,
  },
  {
    name: 'Java: two interruptions over two batches',
    rules: {
      ...{ sites: JAVA, faults: [...INTERRUPTIONS, 'stall'], maxFaults: 2 },
      ...{ units: 2, lateUnits: 1, timelyReports: false },
    },
    harmless: true,
  },
  {
    name: 'C++ and mute C++: any two faults around one batch, with reports that come later than any deadline',
    rules: { sites: ['cpp', 'mute'], faults: ALL, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: false },
    harmless: false,
  },
  {
    name: 'mute C++ and C++: any two faults around one batch, with reports that come later than any deadline',
    rules: { sites: ['mute', 'cpp'], faults: ALL, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: false },
    harmless: false,
  },
  {
    name: 'Java: any two faults around one batch',
    rules: { sites: JAVA, faults: ALL, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: false },
    harmless: true,
  },
  {
    name: 'C++ and Java: any two faults around one batch',
    rules: {
      ...{ sites: ['cpp', 'java'], faults: ALL, maxFaults: 2 },
      ...{ units: 1, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
  {
    name: 'Java and C++: any two faults around one batch',
    rules: {
      ...{ sites: ['java', 'cpp'], faults: ALL, maxFaults: 2 },
      ...{ units: 1, lateUnits: 1, timelyReports: true },
    },
    harmless: false,
  },
]
