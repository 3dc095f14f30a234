/** Drivers whose wire traces hold detections, among commands and answers: how to take them out, and what they are. */
import type { FormatName } from './event-formats/format-names.js'
import type { TraceDecoder } from './trace-contract.js'

export interface RecordedTags {
  readonly format: FormatName
  createDecoder(): Promise<TraceDecoder>
}

const RECORDED_TAGS: Readonly<Record<string, RecordedTags>> = {
  tdc1: {
    format: 'tdc1',
    createDecoder: async () => (await import('../../drivers/tdc1/trace.js')).trace.createDecoder(),
  },
}

export function recordedTags(driver: string | undefined): RecordedTags | undefined {
  return driver === undefined ? undefined : RECORDED_TAGS[driver]
}
