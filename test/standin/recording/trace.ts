/** What one device sent in a session, in a form that a recording and a real device share; and how two of them differ. */
import type { RecordedEvent } from './recording.js'
import type { Tree } from './text-form.js'

export interface TraceItem {
  readonly method: string
  readonly fields?: Tree
  readonly summary?: string
  readonly status?: number
}

export interface Trace {
  /** Its own calls to its SiteAgent, in order. */
  readonly toSite: readonly TraceItem[]
  /** Its own calls to the other device, in order. */
  readonly toPeer: readonly TraceItem[]
  /** Its answers, by method, each with message and status, in order. */
  readonly answers: Readonly<Record<string, readonly TraceItem[]>>
  /** What it streamed to its SiteAgent. */
  readonly keys: readonly TraceItem[]
  readonly statistics: readonly TraceItem[]
  /** Methods of its SiteAgent that the recorded device never calls; sorted, each once. */
  readonly further: readonly string[]
}

export interface Difference {
  readonly where: string
  readonly recorded: string | undefined
  readonly found: string | undefined
}

export type Seat = 'Alice' | 'Bob'

const streams = new Set(['IDevice/WaitForSession', 'IReporting/GetStatistics'])
const perFrame = new Set([
  'IDetector/StartDetecting',
  'IDetector/StopDetecting',
  'IPhotonSim/OnPhoton',
  'ISift/VerifyBases',
])

function itemOf(event: RecordedEvent): TraceItem {
  const { method, fields, summary } = event
  return {
    method,
    ...(fields === undefined ? {} : { fields }),
    ...(summary === undefined ? {} : { summary: summary.replace(/frame \d+/, 'frame') }),
  }
}

/**
 * What the recorded device of this seat sent in a session of `frames` whole frames and one that the stop cuts short:
 * the recording's start, so far as those frames go, then its end.
 */
export function recordedTrace(events: readonly RecordedEvent[], seat: Seat, frames: number): Trace {
  const own = events.filter(({ from }) => from === seat)
  const requests = own.filter(({ direction, kind }) => direction === 'request' && kind === 'MSG')
  const site = seat === 'Alice' ? 'SiteA' : 'SiteB'
  const toPeer = requests.filter(({ to }) => to !== site)
  const statuses = own.filter(({ kind }) => kind === 'STATUS')
  const answered = own.filter(({ kind, direction }) => kind === 'MSG' && direction === 'answer')
  const answers: Record<string, TraceItem[]> = {}
  for (const event of answered.filter(({ method }) => !streams.has(method))) {
    const nth = answered.filter(({ method }) => method === event.method).indexOf(event)
    const status = statuses.filter(({ method }) => method === event.method)[nth]?.status
    ;(answers[event.method] ??= []).push({ ...itemOf(event), ...(status === undefined ? {} : { status }) })
  }
  for (const [method, items] of Object.entries(answers)) {
    // Of what comes with each frame only so much; the frame that the stop cuts short is answered as well.
    if (perFrame.has(method)) answers[method] = items.slice(0, frames + 1)
  }
  // Site A hangs up before the stop, site B after it: only B gets the block of the frame that is cut short.
  const cut = seat === 'Alice' ? 0 : 1
  return {
    toSite: requests.filter(({ to }) => to === site).map(itemOf),
    toPeer: [
      ...startOf(toPeer, seat, frames),
      ...toPeer
        .filter(({ part }) => part === 'end')
        .slice(-2)
        .map(itemOf),
    ],
    answers,
    keys: answered
      .filter(({ method }) => method === 'IDevice/WaitForSession')
      .slice(0, frames + cut)
      .map(itemOf),
    statistics: answered.filter(({ method }) => method === 'IReporting/GetStatistics').map(itemOf),
    further: [],
  }
}

/** Alice: start, photons, stop a frame, and the first two of the frame that is cut short. Bob: one question a frame. */
function startOf(toPeer: readonly RecordedEvent[], seat: Seat, frames: number): TraceItem[] {
  const start = toPeer.filter(({ part }) => part === 'start')
  return start.slice(0, seat === 'Alice' ? 3 * frames + 2 : 1 + frames).map(itemOf)
}

/** Fields whose values are measured: only that they are there is compared. */
const measured = /\.(updated|rate|asDouble)(\[\d+\])?(\.|$)/

/** Every difference between what was recorded and what was found; addresses are those of the recording in both. */
export function compareTraces(recorded: Trace, found: Trace): Difference[] {
  return [
    ...compareItems('to the site', recorded.toSite, found.toSite),
    ...compareItems('to the peer', recorded.toPeer, found.toPeer),
    ...Object.keys({ ...recorded.answers, ...found.answers }).flatMap((method) =>
      compareItems(`answers to ${method}`, recorded.answers[method] ?? [], found.answers[method] ?? []),
    ),
    ...compareItems('keys', recorded.keys, found.keys),
    ...compareStatistics(recorded.statistics, found.statistics),
    ...found.further.map((method) => ({ where: `to the site: ${method}`, recorded: undefined, found: 'called' })),
  ]
}

/** The sequence of methods, and the fields of what has its like at the other side. */
function compareItems(where: string, recorded: readonly TraceItem[], found: readonly TraceItem[]): Difference[] {
  const methods = (items: readonly TraceItem[]): string => items.map(({ method }) => method).join(' ')
  const differences: Difference[] = []
  if (methods(recorded) !== methods(found)) {
    differences.push({ where, recorded: methods(recorded), found: methods(found) })
  }
  for (const method of new Set(recorded.map((item) => item.method))) {
    const [a, b] = [recorded, found].map((items) => items.filter((item) => item.method === method))
    a?.forEach((item, index) => {
      const other = b?.[index]
      if (other !== undefined) differences.push(...compareItem(`${where}: ${method}`, item, other))
    })
  }
  return differences
}

function compareItem(at: string, recorded: TraceItem, found: TraceItem): Difference[] {
  const scalar = (name: 'summary' | 'status'): Difference[] => {
    const [a, b] = [recorded[name], found[name]]
    return a === b ? [] : [{ where: `${at} ${name}`, recorded: String(a), found: String(b) }]
  }
  return [...scalar('summary'), ...scalar('status'), ...compareTrees(at, recorded.fields ?? {}, found.fields ?? {})]
}

function compareTrees(at: string, recorded: Tree, found: Tree): Difference[] {
  return [...new Set([...Object.keys(recorded), ...Object.keys(found)])].flatMap((field) => {
    const here = `${at}.${field}`
    const [a = [], b = []] = [sorted(recorded[field]), sorted(found[field])]
    if (a.length > 0 && b.length > 0 && measured.test(here)) return []
    if (a.length !== b.length) {
      return [{ where: here, recorded: shown(a), found: shown(b) }]
    }
    return a.flatMap((value, index) => {
      const other = b[index]
      if (typeof value === 'object' && typeof other === 'object') return compareTrees(here, value, other)
      return value === other ? [] : [{ where: here, recorded: shown([value]), found: shown(b.slice(index, index + 1)) }]
    })
  })
}

/** Entries of a map come in any order. */
function sorted(values: Tree[string] | undefined): Tree[string] {
  const isMap = values?.every((value) => typeof value === 'object' && 'key' in value) === true
  if (values === undefined || !isMap) return values ?? []
  return [...values].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
}

function shown(values: Tree[string]): string | undefined {
  return values.length === 0 ? undefined : JSON.stringify(values.length === 1 ? values[0] : values)
}

/** By path: which statistics there are, and the first and second report of each, field by field. */
function compareStatistics(recorded: readonly TraceItem[], found: readonly TraceItem[]): Difference[] {
  const byPath = (items: readonly TraceItem[]): Map<string, TraceItem[]> => {
    const groups = new Map<string, TraceItem[]>()
    for (const item of items) {
      const path = (item.fields?.['path'] ?? []).filter((part) => typeof part === 'string').join('/')
      groups.set(path, [...(groups.get(path) ?? []), item])
    }
    return groups
  }
  const [a, b] = [byPath(recorded), byPath(found)]
  return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((path) => {
    const where = `statistics [${path}]`
    const [ours, theirs] = [b.get(path), a.get(path)]
    if (ours === undefined || theirs === undefined) {
      return [{ where, recorded: theirs && 'sent', found: ours && 'sent' }]
    }
    return [0, 1].flatMap((index) => {
      const [old, now] = [theirs[index], ours[index]]
      return old === undefined || now === undefined ? [] : compareItem(where, old, now)
    })
  })
}
