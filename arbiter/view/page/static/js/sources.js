// Where the rows of a table come from: a list that is here, or windows of a list that the server has.

import { ask } from "./api.js";

/** @param {any} a @param {any} b @param {boolean} falling */
function compare(a, b, falling) {
  const [noA, noB] = [a === null || a === undefined, b === null || b === undefined];
  if (noA || noB) return Number(noA) - Number(noB); // without a value: last, in both orders
  const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : Number(a) - Number(b);
  return falling ? -order : order;
}

/**
 * Return rows in an order such as `-tokens`, the largest first.
 * @template Row
 * @param {Row[]} rows
 * @param {string} sort
 * @param {(row: Row, field: string) => any} value
 */
export function ordered(rows, sort, value) {
  const field = sort.replace(/^-/, "");
  return field ? rows.toSorted((a, b) => compare(value(a, field), value(b, field), sort.startsWith("-"))) : rows;
}

/** @param {any[]} rows @returns {import("./grid.js").Source} */
export const listSource = (rows) => ({ total: rows.length, at: (place) => rows[place], need: () => undefined });

const WINDOW = 200; // rows of one request

/** Rows of a list at the server, which filters and orders it. */
export class WindowSource {
  /**
   * @param {string} path
   * @param {Record<string, string | undefined>} query
   * @param {(from: number, to: number) => void} arrived Called when rows of these places have arrived.
   * @param {(error: unknown) => void} failed
   * @param {AbortSignal} signal
   */
  constructor(path, query, arrived, failed, signal) {
    this.path = path;
    this.query = query;
    this.arrived = arrived;
    this.failed = failed;
    this.signal = signal;
    this.total = 0;
    /** @type {any[]} */
    this.rows = [];
    /** @type {Set<number>} */
    this.wanted = new Set();
    /** @type {any} the last answer, without its rows' place */
    this.answer = null;
  }

  /** @param {number} place */
  at(place) {
    return this.rows[place];
  }

  /** @param {number} from @param {number} to */
  need(from, to) {
    for (let window = Math.floor(from / WINDOW); window * WINDOW < to; window++) {
      if (this.wanted.has(window)) continue;
      this.wanted.add(window);
      this.load(window).catch((error) => {
        this.wanted.delete(window);
        if (!this.signal.aborted) this.failed(error);
      });
    }
  }

  /** @param {number} window */
  async load(window) {
    const offset = window * WINDOW;
    const answer = await ask(this.path, { ...this.query, offset: String(offset), limit: String(WINDOW) }, this.signal);
    answer.rows.forEach((/** @type {any} */ row, /** @type {number} */ index) => (this.rows[offset + index] = row));
    this.total = answer.matching;
    this.answer = answer;
    this.arrived(offset, offset + answer.rows.length);
  }

  /** Load the first rows, which say how many there are. */
  async start() {
    this.wanted.add(0);
    await this.load(0);
    return this.answer;
  }

  /**
   * Load again what is known, after the list has changed.
   * @param {number} place Rows near this place come first.
   */
  async renew(place) {
    const known = [...this.wanted].sort((a, b) => Math.abs(a * WINDOW - place) - Math.abs(b * WINDOW - place));
    for (const window of known.slice(3)) this.wanted.delete(window);
    for (const window of known.slice(0, 3)) await this.load(window);
    this.rows.length = this.total;
  }
}
