// A table with virtual rows, from Tabulator, with one current row that keys move. Its rows come from a source, so a long
// table holds no more than it has shown. Cells are nodes that the columns make.

import { bind } from "./keys.js";
import { h } from "./dom.js";
import {
  FormatModule,
  InteractionModule,
  ResizeTableModule,
  SortModule,
  Tabulator,
} from "../vendor/tabulator/tabulator_esm.min.js";

Tabulator.registerModule([FormatModule, InteractionModule, ResizeTableModule, SortModule]);

/**
 * - `at`: the row at a place, or undefined while it is unknown.
 * - `need`: asks for the rows of some places.
 * @typedef {{ total: number, at: (place: number) => any, need: (from: number, to: number) => void }} Source
 */
/**
 * - `cell`: the contents of a cell.
 * - `width`: pixels; without it, the column takes its part (`grow`) of what is left.
 * @typedef {{ field: string, title: string, cell: (row: any) => Node | string, width?: number, grow?: number, right?: boolean,
 *   hint?: string, unsorted?: boolean, descFirst?: boolean }} Column
 */
/**
 * - `unit`: what a row is, for the help.
 * - `sort`: the order at the start, such as `-tokens`, the largest first.
 * - `open`: what Enter and a click do.
 * - `sorted`: called with the order that the user chose.
 * - `moved`: called when another row is the current one.
 * @typedef {{ label: string, unit: string, columns: Column[], rowHeight: number, headless?: boolean, sort?: string,
 *   open: (row: any, place: number) => void, sorted?: (sort: string) => void, moved?: (row: any, place: number) => void }} Options
 */

/** @param {string} sort */
const sorter = (sort) => (sort ? [{ column: sort.replace(/^-/, ""), dir: sort.startsWith("-") ? "desc" : "asc" }] : []);

const SHORT = 12; // characters that every column has room for: longer texts have a tooltip

export class Grid {
  /** @param {HTMLElement} host @param {Options} options */
  constructor(host, options) {
    this.options = options;
    /** @type {Source} */
    this.source = { total: 0, at: () => undefined, need: () => undefined };
    this.current = -1;
    this.sort = options.sort ?? "";
    /** @type {any[]} Tabulator's rows, in order */
    this.rows = [];
    this.unbind = bind(this.bindings());
    this.element = h("div", {
      class: "grid",
      "aria-label": options.label,
      style: { "--row-height": `${options.rowHeight}px` },
    });
    host.append(this.element);
    this.table = new Tabulator(this.element, this.settings());
    this.built = new Promise((done) => this.table.on("tableBuilt", () => (this.prepare(), done(undefined))));
    this.table.on("rowClick", (/** @type {MouseEvent} */ event, /** @type {any} */ row) =>
      this.clicked(event, row.getData().place),
    );
    this.table.on("dataSorted", (/** @type {any[]} */ sorters) => this.reordered(sorters));
  }

  settings() {
    const { columns, rowHeight, headless } = this.options;
    return {
      columns: columns.map((column) => this.definition(column)),
      data: [],
      index: "place",
      height: "100%",
      layout: "fitColumns",
      rowHeight,
      headerVisible: !headless,
      initialSort: sorter(this.sort),
      renderVerticalBuffer: 300,
      nestedFieldSeparator: false,
      rowFormatter: (/** @type {any} */ row) => this.dress(row),
    };
  }

  /** @param {Column} column The source orders the rows, so Tabulator leaves them as they are. */
  definition(column) {
    const side = column.right ? "right" : "left";
    return {
      field: column.field,
      title: column.title,
      width: column.width,
      widthGrow: column.grow ?? 1,
      cssClass: side,
      headerHozAlign: side,
      headerSort: !column.unsorted,
      headerSortStartingDir: column.descFirst ? "desc" : "asc",
      sorter: () => 0,
      formatter: (/** @type {any} */ cell) => this.contents(column, cell),
      titleFormatter: () =>
        column.unsorted
          ? h("span", { class: "heading" }, column.title)
          : h("button", { type: "button", class: "heading", title: column.hint }, column.title),
    };
  }

  /** @param {Column} column @param {any} cell Of Tabulator. */
  contents(column, cell) {
    const { place } = cell.getData();
    const row = this.source.at(place);
    if (row === undefined) {
      this.source.need(place, place + 1);
      return document.createTextNode("…");
    }
    const contents = column.cell(row);
    if (contents instanceof Node) return contents;
    if (contents.length > SHORT) cell.getElement().title = contents;
    return document.createTextNode(contents); // a text node: Tabulator would take a string for markup
  }

  prepare() {
    this.holder = /** @type {HTMLElement} */ (this.element.querySelector(".tabulator-tableholder"));
    this.holder.setAttribute("aria-label", this.options.label);
    this.holder.setAttribute("data-arrows", "");
  }

  /** @param {any} row A row that is being drawn. */
  dress(row) {
    const { place } = row.getData();
    const element = row.getElement();
    element.id ||= `row-${crypto.randomUUID()}`;
    element.setAttribute("aria-rowindex", String(place + 2));
    this.mark(element, place === this.current);
  }

  /** @param {HTMLElement} element @param {boolean} isCurrent */
  mark(element, isCurrent) {
    element.classList.toggle("current", isCurrent);
    element.setAttribute("aria-selected", String(isCurrent));
    if (isCurrent) this.holder?.setAttribute("aria-activedescendant", element.id);
  }

  /** @param {any[]} sorters */
  reordered(sorters) {
    const sort = sorters.map(({ field, dir }) => (dir === "desc" ? `-${field}` : field)).join();
    if (sort === this.sort) return;
    this.sort = sort;
    this.options.sorted?.(sort);
  }

  /**
   * Show the rows of a source from the first one on.
   * @param {Source} source
   */
  async show(source) {
    await this.built;
    this.source = source;
    this.current = -1;
    this.holder?.removeAttribute("aria-activedescendant");
    await this.table.replaceData(Array.from({ length: source.total }, (_, place) => ({ place })));
    this.rows = this.table.getRows();
    this.element.setAttribute("aria-rowcount", String(source.total + 1));
    if (this.holder) this.holder.scrollTop = 0;
  }

  /** Draw what the source has learned. The scroll and the current row stay. */
  async refresh() {
    await this.built;
    const { total } = this.source;
    if (total < this.rows.length) await this.table.deleteRow(this.rows.slice(total).map((row) => row.getData().place));
    else if (total > this.rows.length)
      await this.table.addData(
        Array.from({ length: total - this.rows.length }, (_, more) => ({ place: this.rows.length + more })),
      );
    this.rows = this.table.getRows();
    this.current = Math.min(this.current, total - 1);
    this.element.setAttribute("aria-rowcount", String(total + 1));
    this.redraw(0, total);
  }

  /**
   * Draw the rows of some places again, those that are on the page.
   * @param {number} from
   * @param {number} to
   */
  redraw(from, to) {
    for (const row of this.rows.slice(from, to)) if (row.getElement().isConnected) row.reformat();
  }

  /**
   * Make a row the current one, and scroll to it.
   * @param {number} place
   */
  async select(place) {
    await this.built;
    const row = this.rows[place];
    if (!row) return;
    const before = this.rows[this.current];
    this.current = place;
    if (before) this.mark(before.getElement(), false);
    this.reveal(place);
    this.dress(row);
    this.options.moved?.(this.source.at(place), place);
  }

  /** @param {number} place */
  reveal(place) {
    if (!this.holder) return;
    const { rowHeight } = this.options;
    const top = place * rowHeight;
    const most = top + rowHeight - this.holder.clientHeight;
    if (top < this.holder.scrollTop) this.holder.scrollTop = top;
    else if (most > this.holder.scrollTop) this.holder.scrollTop = most;
  }

  /** @param {number} steps */
  move(steps) {
    const { total } = this.source;
    if (!total) return false;
    const from = this.current >= 0 ? this.current : steps > 0 ? -1 : total;
    void this.select(Math.max(0, Math.min(total - 1, from + steps)));
    return undefined;
  }

  /** @param {MouseEvent} event @param {number} place */
  clicked(event, place) {
    if (/** @type {Element} */ (event.target).closest("a, input, label, button")) return;
    void this.select(place).then(() => this.openCurrent());
  }

  openCurrent() {
    const row = this.source.at(this.current);
    if (row === undefined) return false;
    this.options.open(row, this.current);
    return undefined;
  }

  /** @returns {import("./keys.js").Binding[]} */
  bindings() {
    const page = () => Math.max(1, Math.floor((this.holder?.clientHeight ?? 400) / this.options.rowHeight) - 1);
    const { unit } = this.options;
    return [
      { keys: ["j", "ArrowDown"], does: `next ${unit}`, act: () => this.move(1) },
      { keys: ["k", "ArrowUp"], does: `previous ${unit}`, act: () => this.move(-1) },
      { keys: ["PageDown"], does: "a page down", act: () => this.move(page()) },
      { keys: ["PageUp"], does: "a page up", act: () => this.move(-page()) },
      { keys: ["Home"], does: `first ${unit}`, act: () => this.move(-Infinity) },
      { keys: ["End"], does: `last ${unit}`, act: () => this.move(this.source.total) },
      { keys: ["Enter"], does: `open the ${unit}`, act: () => this.openCurrent() },
    ];
  }

  /** Remove the table and its keys. */
  close() {
    this.unbind();
    void this.built.then(() => this.table.destroy());
  }
}
