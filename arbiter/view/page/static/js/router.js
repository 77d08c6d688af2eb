// The fragment of the address is the whole state of the view: `#/run?run=a&filter=wrong`. So the back button, a reload
// and a copied address all lead to the same view.

/** @typedef {Record<string, string>} Query */
/** @typedef {{ path: string, query: Query }} Place */

/**
 * Return the place that the address names.
 * @returns {Place}
 */
export function here() {
  const [path = "/", query] = (location.hash.slice(1) || "/").split(/\?(.*)/s);
  return { path: path.startsWith("/") ? path : "/", query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/**
 * Return the address of a place. Values that are empty are left out.
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} [query]
 */
export function href(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#${path}${text && `?${text}`}`;
}

/**
 * Go to a place, as a new entry of the history.
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} [query]
 */
export function go(path, query) {
  location.hash = href(path, query);
}

/**
 * Change the query of the current place in its entry of the history. No view is opened again.
 * @param {Record<string, string | number | null | undefined>} changes
 */
export function amend(changes) {
  const { path, query } = here();
  history.replaceState(null, "", href(path, { ...query, ...changes }));
}
