/** The formats by the names that users know. Light: for help texts. */

export const FORMAT_NAMES = [
  'tdc1',
  'a0',
  'a1',
  'a1X',
  'a2',
  'a4',
  't1',
  't2',
  't3',
  't4',
  't7',
  'nox',
  'qutag',
  'cqp',
  'labview',
] as const
export type FormatName = (typeof FORMAT_NAMES)[number]

export const FORMAT_TITLES: Readonly<Record<FormatName, string>> = {
  tdc1: 'raw records of a TDC1 (32-bit words, 2 ns)',
  a0: 'hexadecimal text, 8 digits a line',
  a1: '64-bit event values, low word first',
  a1X: '64-bit event values, high word first',
  a2: 'hexadecimal text, 16 digits a line',
  a4: 'raw records of a TDC1 (32-bit words, 2 ns)',
  t1: 'T1 epoch file: events',
  t2: 'T2 epoch file: times and bases',
  t3: 'T3 epoch file: bits',
  t4: 'T4 epoch file: indices of kept events',
  t7: 'T7 epoch file: key',
  nox: 'records of a NOX time-tagger',
  qutag: 'quTAG binary file',
  cqp: 'CQPToolkit detection list',
  labview: "LabVIEW text of the TDC1's maker",
}
