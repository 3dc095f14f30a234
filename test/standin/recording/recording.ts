/** The recorded session of two C++ SiteAgents and a Dummy pair, read line by line. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseTextForm, type Tree } from './text-form.js'

export type Party = 'SiteA' | 'SiteB' | 'Alice' | 'Bob' | 'Operator'

export interface RecordedEvent {
  readonly atMs: number
  /** Who sent it, and to whom. */
  readonly from: Party
  readonly to: Party
  /** Whether the sender is the caller (a request) or the callee (an answer). */
  readonly direction: 'request' | 'answer'
  readonly kind: 'CALL' | 'MSG' | 'STATUS' | 'RST'
  readonly method: string
  /** MSG: its size and fields, or the summary that the recorder made of it. */
  readonly sizeBytes?: number
  readonly fields?: Tree
  readonly summary?: string
  /** STATUS: the gRPC code. */
  readonly status?: number
  /** Before or after the gap of the recording. */
  readonly part: 'start' | 'end'
}

const portOwners: Readonly<Record<string, Party>> = {
  57550: 'Bob',
  58694: 'Bob',
  45802: 'Bob',
  44604: 'Alice',
  33904: 'Alice',
  48642: 'Alice',
  45788: 'SiteA',
  52158: 'SiteA',
  48628: 'SiteB',
}

/** Addresses in the recording. */
export const recordedAddresses = {
  SiteA: '127.0.0.1:17001',
  SiteB: '127.0.0.1:17002',
  Alice: '127.0.0.1:17011',
  Bob: '127.0.0.1:17012',
} as const

const summaries = /^(RawKeys:|FakeDetection |BasisBySiftFrame |AnswersByFrame )/
const lineForm = /^\s*([\d.]+) (\w+)->(\w+)\s+s\d+\s+(CALL|MSG|STATUS|RST)\s+(\S+)\s*(.*)$/

function party(name: string): { party: Party; named: boolean } {
  if (/^\d+$/.test(name)) return { party: portOwners[name] ?? 'Operator', named: false }
  return { party: name as Party, named: true }
}

export function parseRecording(text: string): RecordedEvent[] {
  const events: RecordedEvent[] = []
  let part: RecordedEvent['part'] = 'start'
  for (const line of text.split('\n')) {
    if (line.trim() === '...') part = 'end'
    const match = lineForm.exec(line)
    if (match === null) continue
    const [, seconds, from = '', to = '', kind, method = '', rest = ''] = match
    const sender = party(from)
    const base = {
      atMs: Number(seconds) * 1000,
      from: sender.party,
      to: party(to).party,
      // The callee goes by its name, the caller by its port.
      direction: sender.named ? ('answer' as const) : ('request' as const),
      kind: kind as RecordedEvent['kind'],
      method,
      part,
    }
    const size = /^\[(\d+) B\] ?(.*)$/.exec(rest)
    const body = size?.[2] ?? ''
    const status = /grpc-status=(\d+)/.exec(rest)?.[1]
    events.push({
      ...base,
      ...(size === null ? {} : { sizeBytes: Number(size[1]) }),
      ...(size === null ? {} : summaries.test(body) ? { summary: body } : { fields: parseTextForm(body) }),
      ...(status === undefined ? {} : { status: Number(status) }),
    })
  }
  return events
}

export function loadRecording(): RecordedEvent[] {
  const file = new URL('../../fixtures/recordings/cpp-siteagents-and-dummy-pair.txt', import.meta.url)
  return parseRecording(readFileSync(fileURLToPath(file), 'utf8'))
}
