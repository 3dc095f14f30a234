/**
 * Device ids as an OpenQKDNetwork (Java) site needs them: `A_B_A`, that is first site, second site, own site. The site
 * finds the peer of a key by these parts; with another form a key is never acknowledged and its reader hangs.
 */

/** Undefined where `id` has the form; otherwise one sentence that says what is wrong with it. */
export function javaIdProblem(id: string): string | undefined {
  const parts = id.split('_')
  if (parts.length !== 3 || parts.some((part) => part === '')) {
    return `device id "${id}" has not the form FIRST_SECOND_OWN (three parts joined by "_", for example A_B_A)`
  }
  const [first, second, own] = parts
  if (first === second) return `device id "${id}" names the same site twice`
  if (own !== first && own !== second) {
    return `device id "${id}": its last part must be one of the first two, the site the device stands at`
  }
  return undefined
}
