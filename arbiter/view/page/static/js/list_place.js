// The place of a problem in the list that it was opened from, and its neighbours there.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { go, href } from "./router.js";

/** @typedef {{ row: number, at: number | "" }} Neighbour */
/** @typedef {{ previous: Neighbour | null, next: Neighbour | null, at: number | "", matching: number | null }} Place */

const LIST_KEYS = ["filter", "text", "sort"];

/**
 * The part of a query that says in which list a problem was opened.
 * @param {Record<string, string>} query
 * @returns {Record<string, string>}
 */
export const listOf = (query) => Object.fromEntries(LIST_KEYS.map((key) => [key, query[key] ?? ""]));

/**
 * Find the place of the row that a query names. Null if the query has none, or if the list has changed since.
 * @param {string} path The list at the server.
 * @param {Record<string, string>} parameters
 * @param {Record<string, string>} query
 * @param {(row: any) => number} numberOf The number of a row of the list.
 * @param {AbortSignal} signal
 * @returns {Promise<Place | null>}
 */
export async function placeOf(path, parameters, query, numberOf, signal) {
  const list = listOf(query);
  const isWhole = LIST_KEYS.every((key) => !list[key]);
  const at = query.at ? Number(query.at) : isWhole ? Number(query.row) - 1 : NaN;
  if (!Number.isInteger(at) || at < 0) return null;
  const from = Math.max(0, at - 1);
  const { rows, matching } = await ask(path, { ...parameters, ...list, offset: String(from), limit: "3" }, signal);
  const here = at - from;
  if (!rows[here] || numberOf(rows[here]) !== Number(query.row)) return null;
  const neighbour = (/** @type {number} */ place) =>
    rows[place] ? { row: numberOf(rows[place]), at: from + place } : null;
  return { previous: neighbour(here - 1), next: neighbour(here + 1), at, matching };
}

/** @param {number | null | undefined} row A row whose place is not known. */
export const unplaced = (row) => (row ? /** @type {Neighbour} */ ({ row, at: "" }) : null);

/**
 * Links to the neighbours in the list.
 * @param {Place} place
 * @param {string} path Of the view.
 * @param {Record<string, string>} query What all its addresses have.
 */
export function neighbourLinks(place, path, query) {
  const link = (/** @type {Neighbour | null} */ to, /** @type {string} */ word, /** @type {string} */ key) =>
    to
      ? h("a", { class: "pill", href: href(path, { ...query, ...to }), "aria-keyshortcuts": key }, word)
      : h("span", { class: "pill", "aria-disabled": "true" }, word);
  const words =
    place.at === "" || place.matching === null
      ? ""
      : `${(place.at + 1).toLocaleString("en")} of ${place.matching.toLocaleString("en")}`;
  return h(
    "nav",
    { class: "neighbours", "aria-label": "Neighbours in the list" },
    link(place.previous, "← Previous", "p"),
    h("span", { class: "muted" }, words),
    link(place.next, "Next →", "n"),
  );
}

/**
 * Keys that go to the neighbours.
 * @param {Place} place
 * @param {string} path
 * @param {Record<string, string>} query
 * @param {string} unit
 * @returns {import("./keys.js").Binding[]}
 */
export function neighbourKeys(place, path, query, unit) {
  const to = (/** @type {Neighbour | null} */ neighbour) => (neighbour ? go(path, { ...query, ...neighbour }) : false);
  return [
    { keys: ["ArrowRight", "n"], does: `next ${unit} of the list`, act: () => to(place.next) },
    { keys: ["ArrowLeft", "p"], does: `previous ${unit} of the list`, act: () => to(place.previous) },
  ];
}
