/** Where the device service stands. */
export type ServingState =
  { state: 'binding'; reason: string } | { state: 'serving'; address: string } | { state: 'stopped' }

export function isServing(state: ServingState): state is Extract<ServingState, { state: 'serving' }> {
  return state.state === 'serving'
}
