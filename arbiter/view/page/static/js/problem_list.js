// A filtered list of problems, or of pairs of them, at the server: its tools, its table, its address.

import { ApiError } from "./api.js";
import { h, put } from "./dom.js";
import { FilterField } from "./filter_field.js";
import { Grid } from "./grid.js";
import { amend } from "./router.js";
import { alertBox } from "./shell.js";
import { WindowSource } from "./sources.js";
import { count } from "./words.js";

const NARROW = "(max-width: 719px)";

/**
 * - `path`, `parameters`: where the list is.
 * - `columns`: its columns on a wide or a narrow page.
 * - `teach`: what an empty list says; `isFiltered` tells whether rows exist that do not match.
 * @typedef {{ path: string, parameters: Record<string, string>, label: string, unit: string, names: import("./filter_field.js").Name[],
 *   chips: import("./filter_field.js").Chip[], example: string, sorts: string[], teach: (isFiltered: boolean) => Node,
 *   columns: (isNarrow: boolean) => { columns: import("./grid.js").Column[], rowHeight: number }, open: (row: any, query: Record<string, string>) => void }} Options
 */

export class ProblemList {
  /** @param {HTMLElement} host @param {Record<string, string>} query @param {Options} options @param {AbortSignal} signal */
  constructor(host, query, options, signal) {
    this.options = options;
    this.query = { filter: query.filter ?? "", text: query.text ?? "", sort: query.sort ?? "" };
    this.place = Number(query.at ?? -1);
    this.signal = signal;
    this.turn = 0;
    this.space = h("div", { class: "space" });
    this.note = h("div", { class: "nothing", hidden: true });
    this.tools = new FilterField(host, {
      ...this.query,
      names: options.names,
      chips: options.chips,
      example: options.example,
      changed: (changes) => this.change(changes),
      left: () => this.grid?.move(1),
    });
    host.append(this.note, this.space);
    this.narrow = window.matchMedia(NARROW);
    this.narrowed = () => this.makeGrid();
    this.narrow.addEventListener("change", this.narrowed);
    this.makeGrid();
  }

  makeGrid() {
    this.grid?.close();
    put(this.space);
    const { columns, rowHeight } = this.options.columns(this.narrow.matches);
    const known = columns.map((column) => ({
      ...column,
      unsorted: column.unsorted || !this.options.sorts.includes(column.field),
    }));
    this.grid = new Grid(this.space, {
      label: this.options.label,
      unit: this.options.unit,
      columns: known,
      rowHeight,
      headless: this.narrow.matches,
      sort: this.query.sort,
      open: (row, place) => this.options.open(row, { ...this.query, at: String(place) }),
      sorted: (sort) => this.change({ sort }),
      moved: (_row, place) => ((this.place = place), amend({ at: place })),
    });
    if (!this.source) put(this.note, h("p", { class: "muted", role: "status" }, "Loading …"));
    this.note.hidden = Boolean(this.source);
    void this.load();
  }

  /** @param {Partial<{ filter: string, text: string, sort: string }>} changes */
  change(changes) {
    Object.assign(this.query, changes);
    this.place = -1;
    amend({ ...this.query, at: "" });
    void this.load();
  }

  async load() {
    const turn = ++this.turn;
    const { grid } = this;
    const parameters = { ...this.options.parameters, ...this.query };
    const source = new WindowSource(
      this.options.path,
      parameters,
      (from, to) => turn === this.turn && this.source === source && grid?.redraw(from, to),
      (error) => this.fail(error),
      this.signal,
    );
    try {
      const answer = await source.start();
      if (turn !== this.turn || this.signal.aborted) return;
      this.source = source;
      this.tell(answer);
      await grid?.show(source);
      if (this.place >= 0) await grid?.select(Math.min(this.place, source.total - 1));
    } catch (error) {
      if (turn === this.turn && !this.signal.aborted) this.fail(error);
    }
  }

  /** Load again what is shown, after the run has grown. The place stays. */
  async renew() {
    const { source, grid, turn } = this;
    if (!source || !grid) return this.load();
    const top = (grid.holder?.scrollTop ?? 0) / grid.options.rowHeight;
    try {
      await source.renew(top);
      if (turn !== this.turn || this.signal.aborted) return;
      this.tell(source.answer);
      await grid.refresh();
    } catch (error) {
      if (turn === this.turn && !this.signal.aborted) this.fail(error);
    }
  }

  /** @param {any} answer */
  tell({ total, matching }) {
    const isFiltered = Boolean(this.query.filter || this.query.text);
    this.tools.tell(
      isFiltered
        ? `${matching.toLocaleString("en")} of ${count(total, this.options.unit)}`
        : count(total, this.options.unit),
    );
    this.note.hidden = matching > 0;
    this.space.hidden = matching === 0;
    if (!matching) put(this.note, this.options.teach(isFiltered && total > 0));
  }

  /** @param {unknown} error */
  fail(error) {
    const isFilter = error instanceof ApiError && error.code === "bad_filter";
    this.note.hidden = isFilter;
    if (isFilter) return this.tools.refuse(error);
    put(this.note, alertBox(error));
  }

  /** Show all rows again. */
  reset() {
    this.tools.words.value = "";
    this.tools.set("");
  }

  close() {
    this.narrow.removeEventListener("change", this.narrowed);
    this.tools.close();
    this.grid?.close();
  }
}
