/** What a stand-in SiteAgent tells of itself, to tests in its process and as JSON lines to others. Never key material. */

/** The steps of a link's start that a SiteAgent sees; the eighth, SessionStarting, is between the devices. */
export type StepName = 'RegisterDevice' | 'StartNode' | 'WaitForSession' | 'GetStatistics' | 'RunSession'

export type SiteAgentEvent =
  | { event: 'listening'; site: string; address: string; atMs: number }
  /** Steps 1 and 2 are RegisterDevice at the left and right site; a SiteAgent tells which by the side it was given. */
  | { event: 'step'; step: 1 | 2 | 3 | 4 | 5 | 6 | 7; name: StepName; site: string; deviceId: string; atMs: number }
  | { event: 'unregistered'; site: string; deviceId: string; left: number; atMs: number }
  /** The answer of a device to one of our calls. */
  | { event: 'answer'; site: string; name: string; deviceId: string; code: number; details: string; atMs: number }
  /** A batch was taken in: keys since the store began, and the hex SHA-256 over their bytes in order of arrival. */
  | {
      event: 'keys'
      site: string
      store: string
      batch: number
      count: number
      digest: string
      /** At a Java site: which of its readers, from 1, they came from. Each begins to number anew. */
      reader?: number
      atMs: number
    }
  | { event: 'stream-ended'; site: string; deviceId: string; code: number; details: string; atMs: number }
  | { event: 'session-ended'; site: string; deviceId: string; atMs: number }
  /** A fact worth knowing: "hop already active", "reads nothing more" … */
  | { event: 'note'; site: string; text: string; atMs: number }
  | { event: 'restarted'; site: string; address: string; atMs: number }
