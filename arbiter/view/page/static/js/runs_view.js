// All runs of the folder: a table, small plots, and the choice of two to compare.

import { follow } from "./api.js";
import { debounced, h, put } from "./dom.js";
import { Grid } from "./grid.js";
import { bind } from "./keys.js";
import { smallMultiples } from "./multiples.js";
import { amend, go, href } from "./router.js";
import { columnsOf, describes, MATCH_HINT, valueOf } from "./runs_table.js";
import { alertBox, say, showFailure, showLink, showWay } from "./shell.js";
import { listSource, ordered } from "./sources.js";
import { count } from "./words.js";

const NARROW = "(max-width: 719px)";

/** Open the list of runs. @param {import("./shell.js").Context} context */
export async function openRuns({ main, query, signal }) {
  const view = new RunsView(main, query);
  showWay([]);
  put(main, h("p", { class: "loading", role: "status" }, "Looking for runs …"));
  void follow(
    "runs",
    {
      changed: (answer) => view.changed(answer),
      answered: () => showLink(view.isLive() ? "live" : "still"),
      failed: (error) => (view.answer ? showLink("lost", error) : showFailure(main, error)),
      isLive: () => true,
    },
    signal,
  );
  return view;
}

class RunsView {
  /** @param {HTMLElement} main @param {Record<string, string>} query */
  constructor(main, query) {
    this.main = main;
    /** @type {any} */
    this.answer = null;
    this.sort = query.sort ?? "";
    this.words = query.match ?? "";
    /** @type {string[]} the runs to compare, at most two */
    this.marked = [query.a, query.b].filter((run) => run !== undefined);
    /** @type {string | undefined} the run of the current row */
    this.run = query.at;
    this.notes = h("div", {});
    this.plots = h("section", { class: "plots", "aria-label": "Accuracy against target tokens" });
    this.space = h("div", { class: "space" });
    this.found = h("p", { class: "muted", role: "status" });
    this.bar = h("div", { class: "choice", role: "region", "aria-label": "Comparison", hidden: true });
    this.field = h("input", {
      type: "search",
      id: "match",
      placeholder: "Filter runs",
      autocomplete: "off",
      spellcheck: "false",
      value: this.words,
      title: MATCH_HINT,
      "aria-keyshortcuts": "/",
      input: debounced(() => this.match(), 120),
    });
    this.narrow = window.matchMedia(NARROW);
    this.narrowed = () => this.answer && this.makeGrid();
    this.narrow.addEventListener("change", this.narrowed);
    this.unbind = bind([
      { keys: ["/"], does: "filter the runs", act: () => (this.field.focus(), undefined) },
      { keys: ["Escape"], whileTyping: true, does: "clear the filter, leave the field", act: () => this.escape() },
      { keys: ["x"], does: "mark the run to compare it", act: () => this.markCurrent() },
      { keys: ["c"], does: "compare the two marked runs", act: () => this.compare() },
    ]);
  }

  isLive() {
    return Boolean(this.answer?.runs.some((/** @type {any} */ run) => run.live));
  }

  /** @param {any} answer */
  changed(answer) {
    const first = !this.answer;
    this.answer = answer;
    if (!answer.runs.length) return this.showEmpty();
    put(this.notes, answer.error && alertBox(new Error(answer.error)));
    if (first || !this.space.isConnected) this.build();
    else this.fill(false);
    smallMultiples(this.plots, this.matching());
    return undefined;
  }

  build() {
    const tools = h(
      "div",
      { class: "tools" },
      h("h1", {}, "Runs"),
      h(
        "div",
        { class: "field" },
        h("label", { for: "match", class: "hidden" }, "Filter runs"),
        this.field,
        h("kbd", { "aria-hidden": "true" }, "/"),
      ),
      this.found,
    );
    this.main.classList.remove("scrolls");
    put(this.main, tools, this.notes, this.plots, this.space, this.bar);
    this.makeGrid();
    this.showBar();
  }

  makeGrid() {
    this.grid?.close();
    put(this.space);
    const { columns, rowHeight } = columnsOf(this.narrow.matches, {
      isMarked: (run) => this.marked.includes(run),
      mark: (run) => this.mark(run),
    });
    this.grid = new Grid(this.space, {
      label: "Runs",
      unit: "run",
      columns,
      rowHeight,
      headless: this.narrow.matches,
      sort: this.sort,
      open: (row) => (row.viewable ? go("/run", { run: row.run }) : this.showPoints(row)),
      sorted: (sort) => ((this.sort = sort), amend({ sort }), this.fill(true)),
      moved: (row) => ((this.run = row.run), amend({ at: row.run })),
    });
    this.fill(true);
  }

  matching() {
    const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    return ordered(
      this.answer.runs.filter((/** @type {any} */ run) => describes(run, words)),
      this.sort,
      valueOf,
    );
  }

  /** @param {boolean} anew Whether the table starts again from its top. */
  fill(anew) {
    const rows = this.matching();
    const { grid } = this;
    if (!grid) return;
    this.found.textContent =
      rows.length === this.answer.runs.length
        ? count(rows.length, "run")
        : `${rows.length} of ${count(this.answer.runs.length, "run")}`;
    const place = rows.findIndex((row) => row.run === this.run);
    const source = listSource(rows);
    if (anew) void grid.show(source).then(() => grid.select(place));
    else {
      grid.source = source;
      grid.current = place;
      void grid.refresh();
    }
  }

  /** @param {any} row A sweep, which has no problems of its own: show its points. */
  showPoints(row) {
    /** @type {HTMLInputElement} */ (this.field).value = row.folder.toLowerCase();
    this.match();
  }

  match() {
    this.words = /** @type {HTMLInputElement} */ (this.field).value;
    amend({ match: this.words });
    this.fill(true);
    smallMultiples(this.plots, this.matching());
  }

  escape() {
    const field = /** @type {HTMLInputElement} */ (this.field);
    if (document.activeElement !== field) return false;
    if (!field.value) return (field.blur(), undefined);
    field.value = "";
    return this.match();
  }

  /** @param {string} run */
  mark(run) {
    this.marked = this.marked.includes(run)
      ? this.marked.filter((one) => one !== run)
      : [...this.marked, run].slice(-2);
    amend({ a: this.marked[0], b: this.marked[1] });
    this.grid?.redraw(0, this.answer.runs.length);
    this.showBar();
  }

  markCurrent() {
    const row = this.grid?.source.at(this.grid.current);
    if (!row?.viewable) return false;
    return this.mark(row.run);
  }

  compare() {
    const [a, b] = this.marked;
    if (!a || !b) return false;
    return go("/compare", { a, b });
  }

  showBar() {
    const names = this.marked.map(
      (run) => this.answer.runs.find((/** @type {any} */ one) => one.run === run)?.name ?? run,
    );
    this.bar.hidden = !names.length;
    const ready = names.length === 2;
    put(
      this.bar,
      h(
        "p",
        {},
        names.flatMap((name, index) => [index ? " and " : "", h("strong", {}, `${"AB"[index]} `), name]),
        ready ? "" : h("span", { class: "muted" }, " – mark one more run to compare"),
      ),
      ready &&
        h("a", { class: "pill strong", href: href("/compare", { a: this.marked[0], b: this.marked[1] }) }, "Compare"),
      h("button", { type: "button", class: "pill", click: () => this.unmark() }, "Clear"),
    );
    say(ready ? "Two runs are marked. Press c to compare them." : "");
  }

  unmark() {
    this.marked = [];
    amend({ a: "", b: "" });
    this.grid?.redraw(0, this.answer.runs.length);
    this.showBar();
  }

  showEmpty() {
    put(
      this.main,
      h(
        "div",
        { class: "empty" },
        h("h1", {}, "No runs yet"),
        h("p", {}, this.answer.error ?? `The folder ${this.answer.folder} has no runs.`),
        h("p", {}, "A run is a folder with an event log. These commands write one:"),
        h(
          "pre",
          {},
          "arbiter bench pocket --limit 20        a benchmark\narbiter sweep pocket --limit 20        the same problems with many thresholds\narbiter serve CONFIG.toml              an endpoint, with a log of its requests",
        ),
        h(
          "p",
          {},
          "This page looks again every two seconds, so leave it open. To look into another folder, start ",
          h("code", {}, "arbiter view FOLDER"),
          ".",
        ),
      ),
    );
  }

  close() {
    this.narrow.removeEventListener("change", this.narrowed);
    this.unbind();
    this.grid?.close();
  }
}
